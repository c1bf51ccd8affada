//! Failures that the random runs found, as they shrank.


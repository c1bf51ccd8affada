//! Figures: medians, ratios to the native directory in the same round, as Markdown and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::systems::{Bench, System};
use super::work::{Start, Workload};

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    /// Time on a processor of the process that serves the mount.
    pub(crate) daemon: Duration,
}

/// All runs of a workload in one system.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) system: System,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(system: System) -> Self {
        Self { system, samples: Vec::new() }
    }

    fn wall(&self) -> f64 {
        median(self.samples.iter().map(|s| millis(s.wall)).collect())
    }

    fn daemon(&self) -> f64 {
        median(self.samples.iter().map(|s| millis(s.daemon)).collect())
    }

    /// The median of the rounds' ratios: what else the machine did in a round both had to bear.
    fn ratio(&self, native: &Self) -> f64 {
        let pairs = self.samples.iter().zip(&native.samples);
        median(pairs.map(|(own, native)| own.wall.as_secs_f64() / native.wall.as_secs_f64()).collect())
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What is reported in the end.
pub(crate) struct Report {
    machine: String,
    notes: Vec<String>,
    runs: usize,
    rows: Vec<(&'static str, &'static str, f64, bool, Vec<Row>)>,
}

impl Report {
    pub(crate) fn new(bench: &Bench, runs: usize) -> Self {
        Self { machine: bench.machine(), notes: bench.missing(), runs, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, workload: &Workload, rows: Vec<Row>) {
        let is_mount = workload.start == Start::Mount;
        self.rows.push((workload.name, workload.what, workload.aim, is_mount, rows));
    }

    pub(crate) fn left_out(&mut self, workload: &Workload, why: &str) {
        self.notes.push(format!("{} left out: {why}", workload.name));
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("{} Medians of {} interleaved runs.\n\n", self.machine, self.runs);
        out.push_str("| workload | native | kernel overlayfs | fuse-overlayfs | bindfs | scrubfs | aim |\n");
        out.push_str("|---|---|---|---|---|---|---|\n");
        for (_, what, aim, is_mount, rows) in &self.rows {
            let cell = |system: System| self.cell(rows, system, *is_mount);
            let aim = if aim.is_finite() { format!("≤ {aim}") } else { "–".to_owned() };
            let cells: Vec<String> = System::ALL.iter().map(|s| cell(*s)).collect();
            // Writing to a string does not fail.
            writeln!(out, "| {what} | {} | {aim} |", cells.join(" | ")).unwrap_or_default();
        }
        for note in &self.notes {
            writeln!(out, "\n{note}").unwrap_or_default();
        }
        out
    }

    fn cell(&self, rows: &[Row], system: System, is_mount: bool) -> String {
        let find = |system| rows.iter().find(|r| r.system == system);
        match (find(system), find(System::Native)) {
            (Some(row), _) if is_mount => format!("{:.0} ms", row.wall()),
            (Some(row), _) if system == System::Native => format!("{:.0} ms", row.wall()),
            (Some(row), Some(native)) => format!("{:.2}", row.ratio(native)),
            (Some(row), None) => format!("{:.0} ms", row.wall()),
            (None, _) => "–".to_owned(),
        }
    }

    pub(crate) fn json(&self) -> String {
        let rows = self.rows.iter().map(|(name, what, aim, _, rows)| {
            let native = rows.iter().find(|r| r.system == System::Native);
            let systems: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({
                        "system": row.system.name(),
                        "median_ms": row.wall(),
                        "ratio": native.map(|n| row.ratio(n)),
                        "daemon_cpu_ms": row.daemon(),
                        "runs_ms": row.samples.iter().map(|s| millis(s.wall)).collect::<Vec<_>>(),
                    })
                })
                .collect();
            json!({"name": name, "what": what, "aim": aim.is_finite().then_some(aim), "systems": systems})
        });
        let all = json!({
            "schema": 1,
            "machine": self.machine,
            "runs": self.runs,
            "workloads": rows.collect::<Vec<_>>(),
            "notes": self.notes,
        });
        format!("{all:#}\n")
    }
}

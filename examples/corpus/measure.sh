#!/usr/bin/env bash
# examples/corpus/measure.sh DIR   gets the packages that crates.txt, python.txt and npm.txt name, and what the crates and the npm
#                                  packages depend on, into DIR (about 3 GB), runs nothing of theirs, and tells how many files
#                                  of each ecosystem the policy would touch. What is in DIR already is used as it is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mkdir -p "${1:?a directory outside the repository}" && cd "$1" && pwd)

if [ ! -d "$dir/crates/vendor" ]; then
  mkdir -p "$dir/crates/src" && touch "$dir/crates/src/lib.rs"
  printf '[package]\nname = "corpus"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n' >"$dir/crates/Cargo.toml"
  sed 's/.*/"&" = "*"/' "$here/crates.txt" >>"$dir/crates/Cargo.toml"
  (cd "$dir/crates" && cargo vendor --quiet vendor >/dev/null)
fi
if [ ! -d "$dir/python" ]; then
  # Wheels run nothing when they are unpacked.
  python3 -m pip install --quiet --no-deps --no-compile --only-binary :all: --target "$dir/python.part" -r "$here/python.txt"
  mv "$dir/python.part" "$dir/python"
fi
if [ ! -d "$dir/npm/node_modules" ]; then
  mkdir -p "$dir/npm"
  xargs npm install --silent --ignore-scripts --no-audit --no-fund --no-package-lock --legacy-peer-deps --prefix "$dir/npm" <"$here/npm.txt"
fi

cd "$here/../.."
cargo build --quiet --release --example innocent
for part in crates/vendor python npm/node_modules; do
  echo "$part"
  "${CARGO_TARGET_DIR:-target}/release/examples/innocent" "$dir/$part" >"$dir/${part%%/*}.found"
  sed -n '/^ *[0-9]/p' "$dir/${part%%/*}.found"
done

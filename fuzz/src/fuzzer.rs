//! The loop: change, run, keep what is new.

use crate::mutate::{Chance, mutate};
use crate::targets::Target;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Inputs that are kept: beyond, the oldest found one goes.
const POOL_MAX: usize = 4_096;
/// Shapes that are remembered: texts of errors without numbers are some hundreds.
const SHAPES_MAX: usize = 65_536;

/// An input on which a target went wrong.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// It.
    pub input: Vec<u8>,
    /// What the panic said.
    pub said: String,
}

/// Fuzzes one target.
pub struct Fuzzer {
    target: &'static Target,
    chance: Chance,
    pool: Vec<Vec<u8>>,
    shapes: BTreeSet<String>,
    runs: u64,
}

/// The corpus of a target: file names and bytes, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn corpus(target: &Target) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        files.push((path, bytes));
    }
    files.sort();
    Ok(files)
}

impl Fuzzer {
    /// Begins with these inputs; the pool is never empty.
    pub fn new(target: &'static Target, seed: u64, inputs: Vec<Vec<u8>>) -> Self {
        let mut pool = inputs;
        pool.push(Vec::new());
        Self { target, chance: Chance::new(seed), pool, shapes: BTreeSet::new(), runs: 0 }
    }

    /// Runs one input as it is.
    ///
    /// # Errors
    /// The target went wrong on it.
    pub fn run(&mut self, input: &[u8]) -> Result<(), Wrong> {
        self.runs += 1;
        let target = self.target;
        match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            Ok(shape) => {
                let is_new = self.shapes.len() < SHAPES_MAX && self.shapes.insert(shape);
                if is_new {
                    if self.pool.len() >= POOL_MAX {
                        self.pool.remove(0);
                    }
                    self.pool.push(input.to_vec());
                }
                Ok(())
            }
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(Wrong { input: input.to_vec(), said: said.unwrap_or_else(|| "a panic without words".to_owned()) })
            }
        }
    }

    /// Runs a changed input of the pool.
    ///
    /// # Errors
    /// The target went wrong on it.
    pub fn step(&mut self) -> Result<(), Wrong> {
        let one = self.chance.index(self.pool.len());
        let other = self.chance.index(self.pool.len());
        let input = mutate(&self.pool[one], &self.pool[other], &mut self.chance);
        self.run(&input)
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Different outcomes so far.
    pub fn shapes(&self) -> usize {
        self.shapes.len()
    }

    /// Inputs that gave something new, and those it began with.
    pub fn pool(&self) -> &[Vec<u8>] {
        &self.pool
    }
}

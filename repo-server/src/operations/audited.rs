//! Audit lines of refusals: those that matter are written down, and a flood of them is not.

use crate::clock;
use crate::operations::Failure;
use crate::state::App;
use sluice_repo_store::audit::{self, NewAuditLine};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refusals of one action written in one [`WINDOW`]; what comes beyond it is counted in one further line, so that a
/// stranger with a wrong token fills neither the disk nor the log, and hides no other refusal: at 300 bytes a line 26 MB
/// a day and action at the very worst.
const LINES_PER_WINDOW: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Characters of a subject or detail that comes from outside.
const TEXT_CHARS_MAX: usize = 400;

/// How many refusals were written in the present window, by action. Actions are constants of this program: few.
#[derive(Debug, Default)]
pub struct RefusalBudget(Mutex<BTreeMap<&'static str, Window>>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    left_out: u32,
}

impl RefusalBudget {
    /// Whether one more may be written now, and how many were left out before the window began.
    fn take(&self, action: &'static str, now: Instant) -> Option<u32> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(action).or_default();
        let is_over = window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW);
        if is_over {
            let left_out = window.left_out;
            *window = Window { began: Some(now), written: 1, left_out: 0 };
            return Some(left_out);
        }
        if window.written >= LINES_PER_WINDOW {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(0)
    }
}

/// A line for something that was done.
pub fn done(
    who: impl ToString,
    action: &'static str,
    subject: impl ToString,
    detail: impl Into<String>,
) -> NewAuditLine {
    NewAuditLine {
        at: clock::timestamp(),
        who: who.to_string(),
        action,
        subject: subject.to_string(),
        done: true,
        detail: detail.into(),
    }
}

/// Bytes that nobody can guess: ids and secrets.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Failure::broken("drawing random bytes", error.to_string()))?;
    Ok(bytes)
}

/// Passes an operation's outcome on, and writes a refusal down first. What broke on our side is not a refusal.
pub async fn outcome<T>(
    app: &App,
    who: &str,
    action: &'static str,
    subject: &str,
    outcome: Result<T, Failure>,
) -> Result<T, Failure> {
    if let Err(Failure::Refused(problem)) = &outcome {
        refused(app, who, action, subject, &problem.to_string()).await;
    }
    outcome
}

/// Writes down that something was refused. A failure to write is logged: the refusal stands either way.
pub async fn refused(app: &App, who: &str, action: &'static str, subject: &str, detail: &str) {
    let Some(left_out) = app.refusals.take(action, clock::now()) else {
        tracing::warn!(who, action, subject, detail, "refused; not in the audit log, which has enough of these");
        return;
    };
    let line = NewAuditLine {
        at: clock::timestamp(),
        who: cut(who),
        action,
        subject: cut(subject),
        done: false,
        detail: cut(detail),
    };
    let more = (left_out > 0).then(|| NewAuditLine {
        who: "server".into(),
        action: "refusals",
        subject: left_out.to_string(),
        detail: format!("{left_out} further refusals were left out of this log"),
        ..line.clone()
    });
    let written = app.store.change(move |tx| {
        if let Some(more) = more {
            audit::append(tx, more)?;
        }
        audit::append(tx, line)
    });
    if let Err(error) = written.await {
        tracing::error!(error = &error as &dyn std::error::Error, "a refusal could not be written to the audit log");
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written() {
        let budget = RefusalBudget::default();
        let now = clock::now();
        let written = (0..100).filter(|_| budget.take("a", now).is_some()).count();
        assert_eq!(written, LINES_PER_WINDOW as usize);
        assert_eq!(budget.take("b", now), Some(0), "another action is not hidden by it");
        assert_eq!(budget.take("a", now + WINDOW), Some(40));
        assert_eq!(budget.take("a", now + WINDOW), Some(0));
    }
}

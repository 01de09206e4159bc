//! Runs a scenario with every client and compares with what is expected.

use crate::forge::Forge;
use crate::server::{ENDLESS_BYTES, Reply};
use crate::stage::{Stage, target_of};
use anyhow::{Result, ensure};
use sluice_tests::foreign::Said;
use sluice_tests::metric;
use std::collections::BTreeMap;

/// An endless answer is cut long before this.
const TAKEN_BYTES_MAX: u64 = 24 << 20;

/// What our node must do.
#[derive(Clone, Copy)]
pub enum Node {
    /// It trusts the newest timestamp.
    Takes,
    /// It says these words and stays where it was.
    Refuses(&'static str),
    /// It asks so often and stays where it was.
    StaysAfterRequests(u64),
}

/// What our agent must do.
#[derive(Clone, Copy)]
pub enum Agent {
    Takes,
    Refuses(&'static str),
}

/// What python-tuf and tuf-js must do.
#[derive(Clone, Copy)]
pub enum Foreign {
    /// They get the good patch.
    Gets,
    /// They refuse with an error of that name each.
    Refuses([&'static str; 2]),
    /// They verify the metadata, and no role lists the target.
    FindsNothing,
    /// They verify the metadata, and the bytes are answered with this status (0: other bytes came).
    NotDelivered(u64),
}

/// One row of the table.
pub struct Case {
    pub name: String,
    pub forge: Forge,
    pub changed: BTreeMap<String, Reply>,
    pub node: Node,
    /// The node's status for the good patch and for the retracted one, afterwards.
    pub serves: [u16; 2],
    pub agent: Agent,
    pub direct: Foreign,
    /// Read through our node.
    pub through: Foreign,
    /// Another target than the good patch to look for.
    pub target: Option<String>,
    /// What the node raises an alarm about, in its own words; `None`: its audit log is beyond doubt.
    pub alarm: Option<&'static str>,
}

impl Case {
    /// Everybody takes it and gets the good patch.
    pub fn taken(name: &str, forge: Forge) -> Self {
        Self {
            name: name.to_owned(),
            forge,
            changed: crate::nothing(),
            node: Node::Takes,
            serves: [200, 410],
            agent: Agent::Takes,
            direct: Foreign::Gets,
            through: Foreign::Gets,
            target: None,
            alarm: None,
        }
    }

    /// Everybody refuses it, in these words (of ours) and with these errors (of python-tuf and tuf-js); through our node
    /// everything is as before.
    pub fn refused(name: &str, forge: Forge, ours: &'static str, theirs: [&'static str; 2]) -> Self {
        Self {
            node: Node::Refuses(ours),
            agent: Agent::Refuses(ours),
            direct: Foreign::Refuses(theirs),
            ..Self::taken(name, forge)
        }
    }
}

/// What was seen.
#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 6]>,
    /// Answers that are not the expected ones.
    wrong: Vec<String>,
}

impl Table {
    /// A row that was checked elsewhere.
    pub fn note(&mut self, name: &str, said: [&str; 5]) {
        let [node, agent, python, js, through] = said.map(str::to_owned);
        self.rows.push([name.to_owned(), node, agent, python, js, through]);
    }

    /// Puts every client back to `from`, gives each the scenario, and compares.
    pub fn run(&mut self, stage: &mut Stage, from: &str, case: Case) {
        let name = case.name.clone();
        stage.go_back(from).unwrap();
        stage.serve(&case.forge, &case.changed);
        let target = case.target.clone().unwrap_or_else(|| target_of(&stage.good));
        let wrong = &mut self.wrong;
        let node = run_node(stage, &case, wrong);
        let through = foreign(stage, &case, "node", &target, case.through, wrong);
        stage.stop_node().unwrap();
        let direct = foreign(stage, &case, "direct", &target, case.direct, wrong);
        let agent = run_agent(stage, &case, wrong);
        let taken = stage.server.endless_bytes();
        if taken > TAKEN_BYTES_MAX {
            wrong.push(format!("{name}: one of our programs took {taken} of {ENDLESS_BYTES} endless bytes"));
        }
        let [python, js] = [0, 1].map(|index| direct[index].clone());
        let through = if through[0] == through[1] { through[0].clone() } else { through.join(" / ") };
        self.rows.push([name, node, agent, python, js, through]);
    }

    pub fn print(&self) {
        let head = ["scenario", "node", "agent", "python-tuf", "tuf-js", "both through our node"].map(str::to_owned);
        let all: Vec<&[String; 6]> = std::iter::once(&head).chain(&self.rows).collect();
        let widths: Vec<usize> =
            (0..6).map(|column| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
        for row in all {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        assert!(
            self.wrong.is_empty(),
            "{} answers are not the expected ones:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
    }
}

fn run_node(stage: &mut Stage, case: &Case, wrong: &mut Vec<String>) -> String {
    let name = &case.name;
    stage.start_node().unwrap();
    let newest = case.forge.version("timestamp");
    let said = match case.node {
        Node::Takes => stage.until_node_takes(newest).map(|()| "takes it".to_owned()),
        Node::Refuses(words) => stage.until_node_says(words).map(|()| "refuses".to_owned()),
        Node::StaysAfterRequests(times) => stage.until_asked(times).map(|()| "stays".to_owned()),
    };
    let said = said.unwrap_or_else(|error| {
        wrong.push(format!("{name}: node: {error:#}"));
        "?".to_owned()
    });
    let trusted = stage.node_timestamp().unwrap();
    let is_there = trusted == newest;
    if trusted == 0 || is_there != matches!(case.node, Node::Takes) {
        wrong.push(format!("{name}: the node trusts timestamp {trusted}; the attacker's is {newest}"));
    }
    let serves = [&stage.good, &stage.bad].map(|version| stage.node_status(version).unwrap());
    if serves != case.serves {
        wrong.push(format!("{name}: the node answers {serves:?} for the good and the retracted patch"));
    }
    let said = if serves[0] == 200 { said } else { format!("{said}, patch {}", serves[0]) };
    match case.alarm {
        Some(doubt) => alarmed(stage, doubt).map_or_else(
            |error| {
                wrong.push(format!("{name}: node: {error:#}"));
                said.clone()
            },
            |()| format!("{said}, alarm"),
        ),
        None => said,
    }
}

/// The alarm stands in the node's log and in its metrics.
fn alarmed(stage: &Stage, doubt: &str) -> Result<()> {
    stage.until_node_says("ALARM: the audit log of the repo server is in doubt")?;
    stage.until_node_says(doubt)?;
    let doubted = metric(&stage.node_host(), "sluice_audit_log_doubted")?;
    ensure!(doubted == 1.0, "its metrics say that the audit log is beyond doubt");
    Ok(())
}

fn run_agent(stage: &Stage, case: &Case, wrong: &mut Vec<String>) -> String {
    let (log, installed) = stage.agent_pass().unwrap();
    let name = &case.name;
    if installed.as_deref() != Some("1.0-1") {
        wrong.push(format!("{name}: the agent has {installed:?} installed\n{log}"));
    }
    let refusal = "metadata was not taken";
    let (is_right, said) = match case.agent {
        Agent::Takes => (!log.contains(refusal), "takes it"),
        Agent::Refuses(words) => (log.contains(refusal) && log.contains(words), "refuses"),
    };
    if !is_right {
        wrong.push(format!("{name}: the agent said\n{log}"));
    }
    said.to_owned()
}

fn foreign(
    stage: &mut Stage,
    case: &Case,
    way: &str,
    target: &str,
    expected: Foreign,
    wrong: &mut Vec<String>,
) -> Vec<String> {
    let good = Said::Got(stage.good.debs[0].sha256.clone());
    let all = stage.ask_foreign(way, target).unwrap();
    let mut cells = Vec::new();
    for (index, (client, said)) in all.iter().enumerate() {
        let is_right = match (expected, said) {
            (Foreign::Gets, said) => *said == good,
            (Foreign::FindsNothing, said) => *said == Said::NotFound,
            (Foreign::Refuses(errors), Said::Refused(error)) => error.contains(errors[index]),
            (Foreign::NotDelivered(status), Said::NotDelivered(found, _)) => status == *found,
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{}: {client} ({way}) said {said:?}", case.name));
        }
        cells.push(match said {
            Said::Refused(_) => "refuses".to_owned(),
            Said::NotFound => "not found".to_owned(),
            Said::NotDelivered(0, _) => "refuses the bytes".to_owned(),
            Said::NotDelivered(status, _) => status.to_string(),
            Said::Got(_) | Said::Taken(_) => "gets it".to_owned(),
        });
    }
    cells
}

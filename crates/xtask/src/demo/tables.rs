//! The account of the demo as tables, from the answers of the API.

use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;

fn text(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.2}", bytes / f64::from(1 << 20))
}

fn mib_of(value: &Value, name: &str) -> String {
    value[name].as_f64().map_or_else(|| "-".into(), mib)
}

/// Prints rows under a heading, columns as wide as their widest cell.
fn print(heading: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain([heading[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("  {}", padded.join("  ").trim_end());
    };
    line(heading.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
    println!();
}

/// Per endpoint and patch: versions before and after, outcome, source of the bytes, seconds.
pub fn endpoints(rows: &[Value], nodes: &[Value]) {
    let name_of = |key: &Value| {
        nodes.iter().find(|node| node["key"] == *key).map_or_else(|| key.to_string(), |node| text(node, "name"))
    };
    let versions = |value: &Value| {
        let all: Vec<String> = value.as_array().into_iter().flatten().map(|state| text(state, "version")).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(" ") }
    };
    let cells = |row: &Value| {
        let sources: Vec<String> = row["sources"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|source| format!("{} {}", name_of(&source["node"]), mib_of(source, "bytes")))
            .collect();
        let seconds = row["duration_ms"].as_f64().map_or_else(|| "-".into(), |ms| format!("{:.1}", ms / 1000.0));
        let state = match row["class"].as_str() {
            Some(class) => format!("{} ({class})", text(row, "state")),
            None => text(row, "state"),
        };
        vec![
            text(row, "name"),
            text(row, "ring"),
            text(row, "patch"),
            versions(&row["before"]),
            versions(&row["after"]),
            state,
            if sources.is_empty() { "-".into() } else { sources.join(", ") },
            seconds,
        ]
    };
    let heading = ["endpoint", "ring", "patch", "before", "after", "outcome", "bytes from (MiB)", "seconds"];
    print(&heading, &rows.iter().map(cells).collect::<Vec<_>>());
}

/// Per node: where its bytes came from and went.
pub fn nodes(rows: &[Value]) {
    let cells = |row: &Value| {
        vec![
            text(row, "name"),
            text(row, "site"),
            mib_of(row, "origin_bytes"),
            mib_of(row, "peer_bytes"),
            mib_of(row, "served_bytes"),
            text(row, "chunks_led"),
            mib_of(row, "metadata_bytes"),
        ]
    };
    let heading = ["node", "site", "from origin (MiB)", "from peers", "served", "chunks led", "metadata"];
    print(&heading, &rows.iter().map(cells).collect::<Vec<_>>());
    println!(
        "  (a node counts from its own start: the killed one lost what it had counted; sites are counted at the origin)\n"
    );
}

/// Per site: what crossed its link, and what it would have cost otherwise.
pub fn sites(rows: &[Value], separate: &BTreeMap<&str, u64>) -> Result<()> {
    let mut table = Vec::new();
    for row in rows {
        let number = |name: &str| row[name].as_f64().with_context(|| format!("a site shows no {name}"));
        let (origin, distinct) = (number("origin_bytes")?, number("distinct_bytes")?);
        let (peak, cap) = (number("wan_peak_bytes_per_sec")?, number("wan_bytes_per_sec")?);
        let name = text(row, "name");
        let apart = separate.get(name.as_str()).copied().unwrap_or(0) as f64;
        table.push(vec![
            name,
            mib(distinct),
            mib(origin),
            format!("{:.4}", origin / distinct),
            mib(number("metadata_bytes")?),
            mib(apart),
            format!("{:.2} of {:.2} Mbit/s", peak * 8.0 / 1e6, cap * 8.0 / 1e6),
        ]);
    }
    let heading =
        ["site", "distinct (MiB)", "from origin", "amplification", "metadata", "N downloads", "highest second"];
    print(&heading, &table);
    println!("  (counted at the origin's sockets, frame headers included, since it was started again)\n");
    Ok(())
}

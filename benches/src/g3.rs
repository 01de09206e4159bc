//! G3: node to node against what users would pick instead: nginx with TLS 1.3 to curl, and libtorrent, one to one.

use crate::data::Data;
use crate::g1::CONNECTIONS;
use crate::harness::{Options, in_own_process};
use crate::measure::{Measured, Stopwatch};
use crate::peers::{Running, nginx, torrent};
use crate::report::{Outcome, Series};
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

/// The product's throughput relative to each.
const NGINX_RATIO_MIN: f64 = 1.3;
const TORRENT_RATIO_MIN: f64 = 3.0;
/// What is moved.
const MIB: u64 = 1024;

pub fn run(options: &Options) -> anyhow::Result<Outcome> {
    let folder = options.folder()?;
    let bytes = options.mib.unwrap_or(MIB) << 20;
    println!("preparing {} MiB", bytes >> 20);
    Data::create(folder.path(), bytes)?;
    let mut outcome = options.outcome("g3");
    if nginx::is_installed(true) {
        let server = nginx::start(folder.path(), folder.path(), true)?;
        let control = || by_curl(&server, folder.path(), bytes);
        let series = against(options, folder.path(), "nginx TLS 1.3 to curl", control)?;
        outcome.findings.push(series.throughput_at_least("G3", NGINX_RATIO_MIN, 1.0 / NGINX_RATIO_MIN));
        outcome.series.push(series);
    } else {
        outcome.skipped.push("nginx, curl or openssl is not installed".to_owned());
    }
    if torrent::is_installed() {
        let seeder = torrent::seed(&folder.path().join("artifact"))?;
        let control = || by_torrent(&seeder, folder.path(), bytes);
        let series = against(options, folder.path(), "libtorrent", control)?;
        outcome.findings.push(series.throughput_at_least("G3", TORRENT_RATIO_MIN, 1.0 / TORRENT_RATIO_MIN));
        outcome.series.push(series);
    } else {
        outcome.skipped.push("libtorrent's Python binding is not installed".to_owned());
    }
    outcome.skipped.push("sendme is not installed".to_owned());
    Ok(outcome)
}

fn against(
    options: &Options,
    folder: &Path,
    name: &str,
    control: impl FnMut() -> anyhow::Result<Measured>,
) -> anyhow::Result<Series> {
    let dir = folder.to_string_lossy().into_owned();
    let slow = options.slow.map(|rate| rate.to_string());
    let mut product = vec!["product", &dir, CONNECTIONS, "tcp"];
    product.extend(slow.as_deref());
    options.alternate(name, control, || in_own_process(&product))
}

fn by_curl(server: &Running, folder: &Path, bytes: u64) -> anyhow::Result<Measured> {
    let target = folder.join("fetched");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--output"]).arg(&target);
    curl.arg(format!("https://127.0.0.1:{}/artifact", server.port));
    let mut watch = Stopwatch::of_others(&server.pids())?;
    ensure!(watch.run(&mut curl)?.success(), "curl failed");
    let measured = watch.stop(bytes)?;
    ensure!(std::fs::metadata(&target)?.len() == bytes, "curl did not fetch everything");
    std::fs::remove_file(&target)?;
    Ok(measured)
}

fn by_torrent(seeder: &Running, folder: &Path, bytes: u64) -> anyhow::Result<Measured> {
    let target = tempfile::tempdir_in(folder)?;
    let mut watch = Stopwatch::of_others(&seeder.pids())?;
    let fetched = watch.run(&mut torrent::fetch(&folder.join("artifact"), seeder.port, target.path()))?;
    ensure!(fetched.success(), "libtorrent failed");
    let measured = watch.stop(bytes)?;
    ensure!(std::fs::metadata(target.path().join("artifact"))?.len() == bytes, "libtorrent did not fetch everything");
    Ok(measured)
}

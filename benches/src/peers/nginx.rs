//! nginx with sendfile, plain and with TLS 1.3, serving one folder.

use super::{Running, free_port};
use anyhow::{Context, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether it and what it needs is installed.
pub fn is_installed(with_tls: bool) -> bool {
    ["nginx", "curl"].iter().chain(with_tls.then_some(&"openssl")).all(|name| crate::harness::has_program(name))
}

/// Serves the files of `root`; its own files go to `folder`.
pub fn start(root: &Path, folder: &Path, with_tls: bool) -> anyhow::Result<Running> {
    let port = free_port()?;
    let listen = if with_tls { format!("{port} ssl") } else { port.to_string() };
    let (root, folder) = (std::path::absolute(root)?, std::path::absolute(folder)?);
    let at = folder.display();
    let tls = if with_tls {
        certificate(&folder)?;
        format!("ssl_certificate {at}/nginx.crt; ssl_certificate_key {at}/nginx.key; ssl_protocols TLSv1.3;")
    } else {
        String::new()
    };
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log {at}/nginx.log;
         events {{ worker_connections 1024; }}
         http {{
            access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
            client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
            uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
            server {{ listen 127.0.0.1:{listen}; root {}; {tls} }}
         }}",
        root.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-e").arg(folder.join("nginx.log")).arg("-c").arg(&file);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start nginx")?;
    Running::listening(child, port).context("nginx")
}

fn certificate(folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=localhost", "-keyout"]).arg(folder.join("nginx.key"));
    let output = command.arg("-out").arg(folder.join("nginx.crt")).output().context("cannot start openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

//! A mosquitto of one's own: for what needs its own configuration, or harms the broker.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;

/// Ends with its value.
pub(crate) struct Broker {
    pub(crate) address: String,
    /// All it listens at; the first is that of `address`.
    pub(crate) ports: Vec<u16>,
    child: Child,
    directory: TempDir,
}

impl Broker {
    /// Starts one with these lines in addition. In them, `DIRECTORY` is a directory of its own, and each
    /// `PORT` a free port.
    pub(crate) fn start(lines: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mqtt-interop-").tempdir()?;
        let own = directory.path().to_str().ok_or("a temporary directory in UTF-8")?;
        let anonymous = !lines.contains("password_file");
        let text = format!(
            "listener PORT 127.0.0.1\nallow_anonymous {anonymous}\nset_tcp_nodelay true\n\
             user root\n{}\n",
            lines.replace("DIRECTORY", own),
        );
        // Somebody else may take a port meanwhile.
        for _ in 0..3 {
            let (text, ports) = with_ports(&text)?;
            fs::write(directory.path().join("mosquitto.conf"), text)?;
            if let Ok(child) = launch(directory.path(), &ports) {
                let address = format!("127.0.0.1:{}", ports[0]);
                return Ok(Self { address, ports, child, directory });
            }
        }
        Err("mosquitto does not start".into())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops it in an orderly way, or not, and waits until it has gone.
    pub(crate) fn stop(&mut self, orderly: bool) -> Result<()> {
        if orderly {
            self.signal("TERM")?;
        } else {
            self.child.kill()?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.child = launch(self.directory.path(), &self.ports)?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -s {signal}: {status}").into()) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a free port in each place.
fn with_ports(text: &str) -> Result<(String, Vec<u16>)> {
    let mut parts = text.split("PORT");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut listeners = Vec::new(); // kept until all are found, which makes them different
    for part in parts {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        filled += &listener.local_addr()?.port().to_string();
        filled += part;
        listeners.push(listener);
    }
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    Ok((filled, ports.collect::<Result<_>>()?))
}

/// Starts mosquitto and waits until it accepts everywhere.
fn launch(directory: &Path, ports: &[u16]) -> Result<Child> {
    let mut child = Command::new("mosquitto")
        .arg("-c")
        .arg(directory.join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if let Some(status) = child.try_wait()? {
            return Err(format!("mosquitto did not start: {status}").into());
        }
        if ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            return Ok(child);
        }
        sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Err("mosquitto does not accept".into())
}

//! A mosquitto of one's own: for what needs its own configuration, or harms the broker.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Result;

/// Ends with its value.
pub(crate) struct Broker {
    pub(crate) address: String,
    child: Child,
    directory: PathBuf,
}

impl Broker {
    /// Starts one with these lines in addition. `DIRECTORY` in them is a directory of its own.
    pub(crate) fn start(lines: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mqtt-interop-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let anonymous = if lines.contains("password_file") { "false" } else { "true" };
        let own = directory.to_str().ok_or("a temporary directory in UTF-8")?;
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous {anonymous}\nset_tcp_nodelay true\n\
             user root\n{}\n",
            lines.replace("DIRECTORY", own),
        );
        fs::write(directory.join("mosquitto.conf"), text)?;
        let address = format!("127.0.0.1:{port}");
        let child = launch(&directory, &address).inspect_err(|_| {
            let _ = fs::remove_dir_all(&directory);
        })?;
        Ok(Self { address, child, directory })
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
        self.child = launch(&self.directory, &self.address)?;
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
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Starts mosquitto and waits until it accepts.
fn launch(directory: &std::path::Path, address: &str) -> Result<Child> {
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
        if TcpStream::connect(address).is_ok() {
            return Ok(child);
        }
        sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Err("mosquitto does not accept".into())
}

//! The brokers that are measured.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::serve;

/// Which broker, and its program if it is not this one.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Ours,
    Mosquitto(String),
    Rumqttd(String),
}

impl Kind {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Ours => "transport-tokio",
            Self::Mosquitto(_) => "mosquitto",
            Self::Rumqttd(_) => "rumqttd",
        }
    }

    /// Its configuration: everybody is let in, nothing is kept on disk, and nothing is dropped that
    /// another broker would deliver.
    fn configuration(&self, port: u16) -> String {
        match self {
            Self::Ours => String::new(),
            Self::Mosquitto(_) => format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
                 max_queued_messages 0\nmax_inflight_messages 100\nset_tcp_nodelay true\n\
                 log_type none\n"
            ),
            Self::Rumqttd(_) => format!(
                "id = 0\n\
                 [router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\n\
                 max_segment_size = 104857600\nmax_segment_count = 10\n\
                 [v4.1]\nname = 'v4'\nlisten = '127.0.0.1:{port}'\nnext_connection_delay_ms = 0\n\
                 [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 20480\n\
                 max_inflight_count = 100\ndynamic_filters = true\n"
            ),
        }
    }

    fn command(&self, configuration: &str) -> io::Result<Command> {
        let mut command = match self {
            Self::Ours => Command::new(std::env::current_exe()?),
            Self::Mosquitto(program) | Self::Rumqttd(program) => Command::new(program),
        };
        match self {
            Self::Ours => command.args([serve::ARGUMENT]),
            Self::Mosquitto(_) | Self::Rumqttd(_) => command.args(["-c", configuration]),
        };
        Ok(command)
    }
}

/// A broker that runs. It ends with its value.
pub(crate) struct Subject {
    process: Child,
    pub(crate) address: SocketAddr,
    _files: TempDir,
}

impl Subject {
    /// Starts one, on the cores that this thread may use, and waits until it accepts.
    pub(crate) fn start(kind: &Kind) -> io::Result<Self> {
        let files = tempfile::tempdir()?;
        let configuration = files.path().join("broker.toml");
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(&configuration, kind.configuration(free))?;
        let mut process = kind
            .command(&configuration.to_string_lossy())?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // Ours says where it listens.
        let port = match (kind, process.stdout.take()) {
            (Kind::Ours, Some(output)) => {
                let mut line = String::new();
                BufReader::new(output).read_line(&mut line)?;
                line.trim().parse().map_err(io::Error::other)?
            }
            (_, output) => {
                // It may write there, and nobody reads.
                thread::spawn(move || output.map(|mut it| io::copy(&mut it, &mut io::sink())));
                free
            }
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut subject = Self { process, address, _files: files };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let is_over = subject.process.try_wait()?.is_some();
            if is_over || start.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other(format!("{} does not start", kind.name())));
            }
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        Ok(subject)
    }

    /// The CPU time it has used, all threads together.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.process.id() as i32))?;
        Ok(clock_gettime(clock)?.into())
    }

    /// The bytes of it that are in memory.
    pub(crate) fn resident(&self) -> io::Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        kilobytes.map(|size| size * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The CPU time that this process has used.
pub(crate) fn own_cpu() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

//! Processes that do not outlive their test.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// After this, something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that ends with its test.
pub(crate) struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the process starts"))
    }

    /// A client that is fed by hand.
    pub(crate) fn client(arguments: &[&str]) -> Self {
        Self::start(command(arguments).stdin(Stdio::piped()))
    }

    /// Writes the same to it again and again, until it takes no more or has taken so much. How much
    /// that was.
    pub(crate) fn flood(mut self, text: &[u8], most: usize) -> usize {
        let mut stdin = self.0.stdin.take().expect("an input");
        let taken = Arc::new(AtomicUsize::new(0));
        let (count, text) = (Arc::clone(&taken), text.to_vec());
        let writer = thread::spawn(move || {
            while count.load(Relaxed) < most && stdin.write_all(&text).is_ok() {
                count.fetch_add(text.len(), Relaxed);
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            thread::sleep(Duration::from_secs(1));
            let now = taken.load(Relaxed);
            if now == seen && now > 0 {
                break;
            }
            seen = now;
        }
        drop(self); // the writer ends with it
        writer.join().expect("a writer");
        taken.load(Relaxed)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("the process is there");
    }

    /// Its exit code, if it has ended.
    pub(crate) fn try_wait(&mut self) -> Option<i32> {
        let status = self.0.try_wait().expect("a process to wait for");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// Its exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(code) = self.try_wait() {
                return code;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command has come to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// What it wrote, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What it complained about, if it ended with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr
    }
}

/// Runs a command to its end.
pub(crate) fn mqtt(arguments: &[&str]) -> Ran {
    feed(arguments, b"")
}

/// Runs a command to its end, which has nowhere to write to.
pub(crate) fn unheard(arguments: &[&str]) -> i32 {
    full(arguments).wait()
}

/// A process that has nowhere to write to.
pub(crate) fn full(arguments: &[&str]) -> Process {
    let full = || File::options().write(true).open("/dev/full").expect("a device");
    Process::start(command(arguments).stdout(full()).stderr(full()))
}

/// Runs a command to its end, which reads this.
pub(crate) fn feed(arguments: &[&str], input: &[u8]) -> Ran {
    let mut process = Process::start(command(arguments).stdin(Stdio::piped()));
    let mut stdin = process.0.stdin.take().expect("an input");
    let input = input.to_vec();
    // It may end without having read everything.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = gather(process.0.stdout.take().expect("an output"));
    let stderr = gather(process.0.stderr.take().expect("an output"));
    let code = process.wait();
    Ran { code, stdout: whole(&stdout), stderr: whole(&stderr) }
}

fn gather(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.read_to_end(&mut text);
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver
}

fn whole(text: &mpsc::Receiver<String>) -> String {
    text.recv_timeout(PATIENCE).expect("an end")
}

/// The lines of a process as they come.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("another line")
    }

    /// The next line with this in it.
    pub(crate) fn until(&self, what: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(what) {
                return line;
            }
        }
    }
}

/// A broker that is served by a process.
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) urls: Vec<String>,
    pub(crate) log: Lines,
    _stdout: Lines,
}

impl Broker {
    /// One on a free port, with these arguments besides.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self::start(&[&["--listen", "127.0.0.1:0"], arguments].concat(), 1)
    }

    /// One that listens in so many places.
    pub(crate) fn start(arguments: &[&str], listeners: usize) -> Self {
        let mut process = Process::start(&mut command(&[&["broker"], arguments].concat()));
        let stdout: ChildStdout = process.0.stdout.take().expect("an output");
        let stderr: ChildStderr = process.0.stderr.take().expect("an output");
        let (stdout, log) = (Lines::of(stdout), Lines::of(stderr));
        let mut urls = Vec::new();
        while urls.len() < listeners {
            match stdout.0.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let url = line.strip_prefix("listening on ").expect("a URL");
                    urls.push(url.to_owned());
                }
                Err(_) => panic!("no broker: {:?}", log.0.try_iter().collect::<Vec<_>>()),
            }
        }
        Self { process, urls, log, _stdout: stdout }
    }

    /// Runs a client of it to its end.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        mqtt(&self.line(command, arguments))
    }

    /// The same with this on standard input.
    pub(crate) fn feed(&self, command: &str, arguments: &[&str], input: &[u8]) -> Ran {
        feed(&self.line(command, arguments), input)
    }

    /// A subscriber that has subscribed.
    pub(crate) fn listen(&self, arguments: &[&str]) -> Listener {
        Listener::start(&self.line("sub", &[&["-d"], arguments].concat()))
    }

    fn line<'a>(&'a self, command: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        [&[command, "-L", &self.urls[0]], arguments].concat()
    }
}

/// A subscriber.
pub(crate) struct Listener {
    pub(crate) process: Process,
    stdout: Option<ChildStdout>,
    pub(crate) log: Lines,
}

impl Listener {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process = Process::start(&mut command(arguments));
        let stdout = process.0.stdout.take();
        let log = Lines::of(process.0.stderr.take().expect("an output"));
        log.until("subscribed");
        Self { process, stdout, log }
    }

    /// Waits until it has written something.
    pub(crate) fn begin(&mut self) {
        let stdout = self.stdout.as_mut().expect("an output");
        stdout.read_exact(&mut [0]).expect("something");
    }

    /// Nobody reads what it writes any more.
    pub(crate) fn hang_up(&mut self) {
        self.stdout = None;
    }

    /// What it has written when it has ended well.
    #[track_caller]
    pub(crate) fn ok(mut self) -> String {
        let stdout = gather(self.stdout.take().expect("an output"));
        assert_eq!(self.process.wait(), 0);
        whole(&stdout)
    }
}

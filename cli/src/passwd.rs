//! `mqtt passwd`: makes password files.

use std::{
    fs::{self, File},
    io::{self, BufRead, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    broker::passwords::{hash, is_name},
    failure::Failure,
};

/// Set a user's password in a password file
///
/// Without -b it is asked for on the terminal, or else is the first line of standard input. A running broker reads the file again on SIGHUP.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mqtt passwd -c passwords alice
  mqtt passwd passwords bob < secret
  mqtt passwd -D passwords alice")]
pub(crate) struct Arguments {
    /// Make a new file, in place of one that is there
    #[arg(short, long, conflicts_with = "delete")]
    create: bool,
    /// Take the user out
    #[arg(short = 'D', long)]
    delete: bool,
    /// The password is given as an argument; others on this machine may see it
    #[arg(short, long, conflicts_with = "delete", requires = "password")]
    batch: bool,
    /// The password file
    file: PathBuf,
    /// The user
    user: String,
    /// The user's password
    #[arg(requires = "batch")]
    password: Option<String>,
}

/// The longest password that a packet has room for, in bytes.
const LONGEST: u64 = 65_535;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { file, user, .. } = arguments;
    if !is_name(user) {
        return Err(Failure::other(format!("{user:?} cannot stand in a password file")));
    }
    let failed = |error: io::Error| Failure::other(format!("{}: {error}", file.display()));
    let old = match fs::read_to_string(file) {
        _ if arguments.create => String::new(),
        Ok(old) => old,
        Err(error) => return Err(failed(error)),
    };
    let is_other = |line: &&str| line.split_once(':').is_none_or(|(name, _)| name.trim() != user);
    let mut new: String = old.lines().filter(is_other).map(|line| format!("{line}\n")).collect();
    if arguments.delete {
        if new.lines().count() == old.lines().count() {
            return Err(Failure::other(format!("{}: no user {user}", file.display())));
        }
    } else {
        let password = match &arguments.password {
            Some(password) => password.clone().into_bytes(),
            None => ask(user)?,
        };
        new.push_str(&format!("{user}:{}\n", hash(&password)?));
    }
    replace(file, &new).map_err(failed)
}

/// Asks for a password, twice if somebody types it unseen.
fn ask(user: &str) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| Failure::other(format!("the password: {error}"));
    let input = io::stdin();
    if input.is_terminal() {
        let prompt = |text: String| rpassword::prompt_password(text).map_err(unreadable);
        let password = prompt(format!("Password for {user}: "))?;
        return match prompt("The same again: ".into())? == password {
            true => Ok(password.into_bytes()),
            false => Err(Failure::other("these are two passwords")),
        };
    }
    let mut line = Vec::new();
    input.lock().take(LONGEST).read_until(b'\n', &mut line).map_err(unreadable)?;
    line.pop_if(|last| *last == b'\n');
    line.pop_if(|last| *last == b'\r');
    match line.is_empty() {
        true => Err(Failure::other("the password is empty")),
        false => Ok(line),
    }
}

/// Puts a file in place of another at once, readable for nobody else unless that one was.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_new(&new, text, fs::metadata(path).ok().map(|old| old.permissions()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new); // it may not even be there
    }
    written
}

fn write_new(path: &Path, text: &str, permissions: Option<fs::Permissions>) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

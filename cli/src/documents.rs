//! `mqtt completions` and `mqtt man`: what shells and `man` want to know about this program.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{
    Arguments,
    failure::{Failure, say},
};

/// Write completions for a shell to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mqtt completions bash > /etc/bash_completion.d/mqtt
  mqtt completions zsh > ~/.zfunc/_mqtt
  mqtt completions fish > ~/.config/fish/completions/mqtt.fish")]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// Write manual pages to a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mqtt man /usr/local/share/man/man1
  mqtt man . && man ./mqtt-sub.1")]
pub(crate) struct Man {
    /// Where to; it is made if it is not there
    directory: PathBuf,
}

pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "mqtt", &mut text);
    say(&text)
}

pub(crate) fn man(arguments: &Man) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let written = fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory));
    written.map_err(|error| Failure::other(format!("{}: {error}", directory.display())))
}

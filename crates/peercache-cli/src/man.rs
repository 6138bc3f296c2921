//! Manual pages, from the definitions that parse the command line.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use serde_json::json;

use crate::args::ManArgs;
use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

pub(crate) fn run(args: &ManArgs, json: bool) -> Result<Exit, Failure> {
    match &args.dir {
        Some(dir) => write_all(dir, json)?,
        None => {
            output::write(&page_of(&args.command)?.1)?;
        }
    }
    Ok(Exit::Ok)
}

/// Writes the page of every command into `dir`.
fn write_all(dir: &Path, json: bool) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::failed(format!("cannot write {}: {error}; name another folder", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    let mut names = Vec::new();
    for command in visible(definition()) {
        let (name, page) = render(command)?;
        let file = dir.join(&name);
        std::fs::write(&file, page).map_err(|error| failed(&file, &error))?;
        names.push(name);
    }
    if json {
        return output::json(&json!({ "dir": dir, "pages": names }));
    }
    output::line(format_args!("{} pages are in {}", names.len(), dir.display()))
}

/// The file name and the page of one command, such as `["s3", "lifecycle"]`.
fn page_of(words: &[String]) -> Result<(String, Vec<u8>), Failure> {
    let mut command = definition();
    for word in words {
        let inner = command.get_subcommands().find(|inner| inner.get_name() == word && !inner.is_hide_set());
        let Some(inner) = inner.cloned() else {
            return Err(Failure::config(format!(
                "`{} {word}` is no command; `{0} --help` lists them",
                command.get_bin_name().unwrap_or("peercache")
            )));
        };
        command = inner;
    }
    render(command)
}

/// The command line, with the names of its commands in full and global options everywhere.
fn definition() -> Command {
    let mut command = Cli::command().bin_name("peercache").disable_help_subcommand(true);
    command.build();
    command
}

/// `command` and all below it that help shows.
fn visible(command: Command) -> Vec<Command> {
    let mut found = vec![command];
    let mut next = 0;
    while let Some(command) = found.get(next) {
        let inner: Vec<_> = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned().collect();
        found.extend(inner);
        next += 1;
    }
    found
}

fn render(command: Command) -> Result<(String, Vec<u8>), Failure> {
    let failed = |what: String| Failure::failed(format!("the manual page cannot be made: {what}"));
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render(&mut page).map_err(|error| failed(error.to_string()))?;
    let page = String::from_utf8(page).map_err(|error| failed(error.to_string()))?;
    let name = man.get_filename();
    let mut lines: Vec<_> = page.lines().collect();
    let head = head(name.trim_end_matches(".1"));
    match lines.iter_mut().find(|line| line.starts_with(".TH ")) {
        Some(line) => *line = &head,
        None => return Err(failed(format!("{name} has no title line"))),
    }
    let mut page = lines.join("\n").into_bytes();
    page.push(b'\n');
    Ok((name, page))
}

/// The title line of a page, and that its lines are neither stretched nor hyphenated: most of what
/// is long in them is to be typed. `clap_mangen` leaves an empty date out, by which what follows
/// moves to its place. There is no date, so that a build prints the same page on every day.
fn head(name: &str) -> String {
    format!(".TH {name} 1 \"\" \"peercache {}\" \"peercache\"\n.ad l\n.nh", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_each_of_its_options() {
        let commands = visible(definition());
        assert!(commands.len() > 20, "{}", commands.len());
        for command in commands {
            let full = command.get_bin_name().unwrap().to_owned();
            let options: Vec<_> = command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
                .filter_map(clap::Arg::get_long)
                .map(str::to_owned)
                .collect();
            let inner: Vec<_> = visible(command.clone()).into_iter().skip(1).collect();
            let (name, page) = render(command).unwrap();
            assert_eq!(name, format!("{}.1", full.replace(' ', "-")));
            let text = String::from_utf8_lossy(&page);
            let titles: Vec<_> = text.lines().filter(|line| line.starts_with(".TH")).collect();
            let version = env!("CARGO_PKG_VERSION");
            let title =
                format!(".TH {} 1 \"\" \"peercache {version}\" \"peercache\"", full.replace(' ', "-"));
            assert_eq!(titles, [title]);
            // In the source of a page, a hyphen that is typed stands as `\-`.
            let page = String::from_utf8(page).unwrap().replace("\\-", "-");
            assert!(options.contains(&"json".to_owned()), "{full} lacks the global options");
            for option in options {
                assert!(page.contains(&format!("--{option}")), "the page {name} does not name --{option}");
            }
            for command in inner {
                let direct =
                    command.get_bin_name().unwrap().split(' ').count() == full.split(' ').count() + 1;
                let below = command.get_bin_name().unwrap().replace(' ', "-");
                assert!(!direct || page.contains(&below), "the page {name} does not name {below}");
            }
        }
    }

    #[test]
    fn page_of_an_inner_command_is_found_and_hidden_or_unknown_ones_are_named() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(page_of(&words(&["s3", "lifecycle"])).unwrap().0, "peercache-s3-lifecycle.1");
        assert_eq!(page_of(&[]).unwrap().0, "peercache.1");
        for unknown in [&["fakehub"][..], &["s3", "no-such"]] {
            let message = page_of(&words(unknown)).unwrap_err().to_string();
            assert!(message.contains(unknown[unknown.len() - 1]), "{message}");
            assert!(message.contains("--help` lists them"), "{message}");
        }
    }
}

//! The Go toolchain: the one that is here, or where that is too old, the one that it fetches.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The oldest that can build the parts; their modules' `go` lines ask for no newer one.
const NEEDED: (u32, u32) = (1, 24);

/// The oldest that fetches another one by itself (GOTOOLCHAIN). Debian 12 has an older one.
const SWITCHES: (u32, u32) = (1, 21);

/// What is fetched with one that does not: a module like others, with its sum in the same public log.
const FETCHED: &str = "go1.24.11";

/// Where it is that was unpacked as go.dev says, also for those whose PATH does not have it.
const UNPACKED: &str = "/usr/local/go/bin/go";

/// The `go` command of this machine, if there is one.
pub fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = env::split_paths(&path).map(|directory| directory.join("go"));
    named.chain([UNPACKED.into()]).find(|go| go.is_file())
}

/// A `go` that is new enough, with the environment that it must be run in.
#[derive(Clone, Debug)]
pub(super) struct Go {
    program: PathBuf,
    /// Whether it may fetch a newer one.
    switches: bool,
}

impl Go {
    /// The one to build with; fetches it where need be.
    pub(super) fn ready() -> Result<Self> {
        let program = find().context(
            "there is no Go toolchain: as root, apt-get install golang-go, or unpack one of https://go.dev/dl in /usr/local",
        )?;
        let here = Self { program, switches: false };
        let said = here.say(&["env", "GOVERSION"])?;
        let version = version(&said)
            .with_context(|| format!("{} says it is version {:?}", here.program.display(), said.trim()))?;
        if version >= NEEDED {
            Ok(here)
        } else if version >= SWITCHES {
            Ok(Self { switches: true, ..here })
        } else {
            here.fetch(said.trim())
        }
    }

    /// A command that builds in `directory`.
    pub(super) fn command(&self, directory: &Path, args: &[&str]) -> Command {
        let mut go = Command::new(&self.program);
        go.args(args).current_dir(directory);
        // Versions are what our files say, whatever this user's or another workspace's settings are. Where modules come
        // from (GOPROXY and its kin) stays the user's to say.
        go.env("GOFLAGS", "").env("GOWORK", "off");
        if self.switches {
            // Debian's says `local`.
            go.env("GOTOOLCHAIN", "auto");
        }
        // Compilers are short-lived: collecting garbage less often saves time, within a limit that small machines have.
        for (name, value) in [("GOGC", "400"), ("GOMEMLIMIT", "2GiB")] {
            if env::var_os(name).is_none() {
                go.env(name, value);
            }
        }
        go
    }

    fn say(&self, args: &[&str]) -> Result<String> {
        // At a place where no module asks for another version.
        let output = self.command(Path::new("/"), args).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "go {} failed: {}", args.join(" "), error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Has one that is too old to know of toolchains fetch one as a module.
    fn fetch(&self, version: &str) -> Result<Self> {
        let system = self.say(&["env", "GOOS", "GOARCH"])?.split_whitespace().collect::<Vec<_>>().join("-");
        let module = format!("golang.org/toolchain@v0.0.1-{FETCHED}.{system}");
        eprintln!(
            "{} is {version}, too old for the parts; fetching {FETCHED} as a module",
            self.program.display()
        );
        let said = self.say(&["mod", "download", "-json", &module]).with_context(|| {
            format!("{version} cannot change to a newer one by itself: install Go 1.21 or newer (https://go.dev/dl)")
        })?;
        let said: Value = serde_json::from_str(&said).context("go mod download printed no JSON")?;
        let Some(directory) = said["Dir"].as_str() else { bail!("go mod download {module}: {said}") };
        let program = Path::new(directory).join("bin/go");
        // Files of modules are not executable. `go` comes last: whoever finds it so may use it.
        if !is_executable(&program)? {
            make_executable(&Path::new(directory).join("pkg/tool"))?;
            make_executable(&Path::new(directory).join("bin"))?;
        }
        Ok(Self { program, switches: true })
    }
}

fn is_executable(file: &Path) -> Result<bool> {
    let metadata = fs::metadata(file).with_context(|| file.display().to_string())?;
    Ok(metadata.permissions().mode() & 0o111 != 0)
}

fn make_executable(directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort_by_key(|path| path.ends_with("go"));
    for path in paths {
        if path.is_dir() {
            make_executable(&path)?;
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o555))
                .with_context(|| format!("cannot make {} executable", path.display()))?;
        }
    }
    Ok(())
}

/// The first two numbers of `go1.24.11`, also of `go1.26rc1` and of `devel go1.27-…`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, numbers) = said.split_once("go1.")?;
    let digits: String = numbers.chars().take_while(char::is_ascii_digit).collect();
    Some((1, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds_are_understood() {
        assert_eq!(version("go1.24.11\n"), Some((1, 24)));
        assert_eq!(version("go1.26rc1"), Some((1, 26)));
        assert_eq!(version("devel go1.27-5c1a2b"), Some((1, 27)));
        assert_eq!(version("gccgo"), None);
    }

    #[test]
    fn what_is_fetched_is_new_enough() {
        assert!(version(FETCHED).is_some_and(|fetched| fetched >= NEEDED));
    }
}

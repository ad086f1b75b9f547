//! Images without a registry: OCI archives of one layer, made of files of this machine. The same files make the same
//! archive, to the byte.

mod libraries;
mod tar;

use crate::files;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::BufWriter,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tar::{Entry, Tar};

/// An image to be built.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    entries: BTreeMap<String, Entry>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    user: Option<String>,
}

impl Image {
    /// An empty image of this full name, `registry/path:tag`: what containerd stores it under, and what a pod must say.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entries: BTreeMap::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()],
            user: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a file of this machine, with the mode that it has here.
    pub fn file(mut self, path: &str, from: &Path) -> Result<Self> {
        let found = from.metadata().with_context(|| format!("no file {}", from.display()))?;
        let mode = found.permissions().mode() & 0o777;
        self.add(path, Entry::File { from: from.to_owned(), mode, size: found.len() });
        Ok(self)
    }

    /// Adds a program of this machine, with the libraries that it is linked with.
    pub fn program(mut self, path: &str, from: &Path) -> Result<Self> {
        for library in libraries::of(from)? {
            let at = library.display().to_string();
            self = self.file(&at, &library)?;
        }
        self.file(path, from)
    }

    /// Adds a small file of this content.
    pub fn text(mut self, path: &str, content: &str) -> Self {
        self.add(path, Entry::Text(content.as_bytes().to_vec()));
        self
    }

    /// Adds an empty directory of this mode.
    pub fn directory(mut self, path: &str, mode: u32) -> Self {
        self.add(path, Entry::Directory { mode });
        self
    }

    /// Adds a symbolic link.
    pub fn link(mut self, path: &str, to: &str) -> Self {
        self.add(path, Entry::Link(to.to_owned()));
        self
    }

    /// Adds busybox (Debian's `busybox-static`) under the names of these of its programs, in /bin.
    pub fn busybox(mut self, programs: &[&str]) -> Result<Self> {
        self = self.file("/bin/busybox", Path::new("/bin/busybox"))?;
        for program in programs {
            self = self.link(&format!("/bin/{program}"), "busybox");
        }
        Ok(self)
    }

    /// What is run.
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// The arguments, where a pod says none.
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// Sets a variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Whom it runs as, `user:group` in numbers; root where nothing is said.
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    fn add(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.trim_start_matches('/').to_owned(), entry);
    }

    /// Writes the archive.
    pub fn build(&self, archive: &Path) -> Result<()> {
        let (directory, file) = (archive.parent(), archive.file_name());
        let (directory, file) = directory.zip(file).context("an archive needs a path")?;
        files::directory(directory)?;
        // Under another name until it is whole; two may build the same.
        let part = |what: &str| directory.join(format!(".{}.{}.{what}", file.display(), std::process::id()));
        let (layer, whole) = (part("layer"), part("whole"));
        let result = self.layer(&layer).and_then(|digest| self.archive(&layer, &digest, &whole));
        files::remove(&layer)?;
        result?;
        std::fs::rename(&whole, archive).with_context(|| format!("cannot make {}", archive.display()))
    }

    /// Writes the one layer and gives its digest.
    fn layer(&self, path: &Path) -> Result<String> {
        let mut tar = Tar::new(BufWriter::new(create(path)?));
        let mut made = std::collections::BTreeSet::new();
        for (name, entry) in &self.entries {
            // The directories above are made as most images have them, where nobody said otherwise.
            let mut above: Vec<_> = Path::new(name).ancestors().skip(1).collect();
            above.pop();
            for parent in above.into_iter().rev().map(|path| path.display().to_string()) {
                if made.insert(parent.clone()) && !self.entries.contains_key(&parent) {
                    tar.add(&parent, &Entry::Directory { mode: 0o755 })?;
                }
            }
            tar.add(name, entry)?;
        }
        tar.finish()
    }

    fn archive(&self, layer: &Path, layer_digest: &str, path: &Path) -> Result<()> {
        let mut tar = Tar::new(BufWriter::new(create(path)?));
        let layer_size = layer.metadata()?.len();
        let config = self.config(layer_digest).to_string();
        let config_digest = tar::digest(config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len() as u64),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer_digest, layer_size)],
        })
        .to_string();
        let manifest_digest = tar::digest(manifest.as_bytes());
        let size = manifest.len() as u64;
        let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, size);
        listed["platform"] = json!({"os": "linux", "architecture": architecture()});
        // The full name is containerd's own annotation; the other one is the standard's, for the tag alone.
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        listed["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [listed],
        });
        tar.add("oci-layout", &Entry::Text(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()))?;
        tar.add("index.json", &Entry::Text(index.to_string().into_bytes()))?;
        tar.add("blobs", &Entry::Directory { mode: 0o755 })?;
        tar.add("blobs/sha256", &Entry::Directory { mode: 0o755 })?;
        for (digest, blob) in [(&config_digest, config), (&manifest_digest, manifest)] {
            tar.add(&format!("blobs/sha256/{digest}"), &Entry::Text(blob.into_bytes()))?;
        }
        let blob = Entry::File { from: layer.to_owned(), mode: 0o644, size: layer_size };
        tar.add(&format!("blobs/sha256/{layer_digest}"), &blob)?;
        tar.finish().map(drop)
    }

    fn config(&self, layer: &str) -> Value {
        let mut config = json!({"Env": self.environment, "WorkingDir": "/"});
        let lists = [("Entrypoint", &self.entrypoint), ("Cmd", &self.command)];
        for (key, words) in lists.into_iter().filter(|(_, words)| !words.is_empty()) {
            config[key] = json!(words);
        }
        if let Some(user) = &self.user {
            config["User"] = json!(user);
        }
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
    }
}

/// A copy of a program without its debug information (`objcopy`, of Debian's binutils), which is most of a debug
/// build; made anew where the program is newer.
pub fn stripped(program: &Path, directory: &Path) -> Result<PathBuf> {
    files::directory(directory)?;
    let name = program.file_name().with_context(|| format!("{} has no name", program.display()))?;
    let copy = directory.join(name);
    let newer = |path: &Path| -> Result<_> { Ok(path.metadata()?.modified()?) };
    let made = program.exists() && copy.exists() && newer(&copy)? > newer(program)?;
    if !made {
        let mut objcopy = std::process::Command::new("objcopy");
        objcopy.arg("--strip-debug").arg(program).arg(&copy);
        let output = objcopy.output().context("cannot run objcopy (Debian package binutils)")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "objcopy {}: {}", program.display(), error.trim());
    }
    Ok(copy)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot make {}", path.display()))
}

fn descriptor(kind: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

/// This machine's, by the name that images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests;

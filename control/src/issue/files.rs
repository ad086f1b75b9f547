//! The authority's files, as texts: the same in a directory and in a Secret.

use super::authority::{AuthorityError, CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT, certificates_in, pem};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A file of the authority that is longer than this is none.
const LONGEST: u64 = 1 << 20;

/// The authority's files, by Istio's names.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// Where they are, for messages: a directory, or the name of a Secret.
    pub(super) origin: PathBuf,
    pub(super) texts: BTreeMap<String, String>,
}

impl std::fmt::Debug for Files {
    // The texts hold keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("origin", &self.origin)
            .field("names", &self.texts.keys())
            .finish_non_exhaustive()
    }
}

impl Files {
    /// No files.
    pub(super) fn new(origin: impl Into<PathBuf>) -> Self {
        Self { origin: origin.into(), texts: BTreeMap::new() }
    }

    /// Those of a directory.
    pub(super) fn read(dir: &Path) -> Result<Self, AuthorityError> {
        let mut files = Self::new(dir);
        let failed = |path: &Path, cause| AuthorityError::Io { path: path.to_owned(), cause };
        for entry in fs::read_dir(dir).map_err(|e| failed(dir, e))? {
            let path = entry.map_err(|e| failed(dir, e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            // A mounted Secret keeps its generations under hidden names.
            if name.starts_with('.') || !(name.ends_with(".pem") || name.ends_with(".json")) {
                continue;
            }
            let meta = fs::metadata(&path).map_err(|e| failed(&path, e))?;
            if !meta.is_file() {
                continue;
            }
            let mode = meta.permissions().mode() & 0o777;
            // The group may read: that is how Kubernetes mounts a secret for a process that is not root.
            if name.ends_with("key.pem") && mode & 0o007 != 0 {
                return Err(AuthorityError::Exposed { path, mode });
            }
            if meta.len() > LONGEST {
                return Err(failed(&path, io::Error::from(io::ErrorKind::FileTooLarge)));
            }
            let text = fs::read_to_string(&path).map_err(|e| failed(&path, e))?;
            files.texts.insert(name.to_owned(), text);
        }
        Ok(files)
    }

    /// Those of a Secret: with Istio's names, or with those of `kubernetes.io/tls`, as cert-manager writes them.
    pub(super) fn of_secret(name: &str, data: BTreeMap<String, Vec<u8>>) -> Result<Self, AuthorityError> {
        let mut files = Self::new(format!("Secret {name}"));
        for (key, bytes) in data {
            let path = files.origin.join(&key);
            let unusable = || AuthorityError::Unusable { path, what: "is not text".to_owned() };
            let text = String::from_utf8(bytes).map_err(|_| unusable())?;
            files.texts.insert(key, text);
        }
        if files.texts.contains_key(CA_CERT) || !files.texts.contains_key("tls.crt") {
            return Ok(files);
        }
        let chain = files.get("tls.crt")?.to_owned();
        let first = files.certificates("tls.crt")?.swap_remove(0);
        let renamed = [
            (CA_CERT, pem(&first)),
            (CERT_CHAIN, chain),
            (CA_KEY, files.get("tls.key")?.to_owned()),
            (ROOT_CERT, files.get("ca.crt")?.to_owned()),
        ];
        files.texts.extend(renamed.map(|(name, text)| (name.to_owned(), text)));
        Ok(files)
    }

    /// A file's text.
    pub(super) fn get(&self, file: &'static str) -> Result<&str, AuthorityError> {
        let missing = || AuthorityError::Incomplete { dir: self.origin.clone(), file };
        self.texts.get(file).map(String::as_str).ok_or_else(missing)
    }

    /// Puts a text in a file's place.
    pub(super) fn put(&mut self, file: &str, text: String) {
        self.texts.insert(file.to_owned(), text);
    }

    /// The certificates in a file; at least one.
    pub(super) fn certificates(
        &self,
        file: &'static str,
    ) -> Result<Vec<rustls_pki_types::CertificateDer<'static>>, AuthorityError> {
        certificates_in(self.get(file)?).map_err(|what| self.unusable(file, what))
    }

    /// The key in a file.
    pub(super) fn key(&self, file: &'static str) -> Result<rcgen::KeyPair, AuthorityError> {
        rcgen::KeyPair::from_pem(self.get(file)?).map_err(|e| self.unusable(file, e))
    }

    /// What is wrong with a file.
    pub(super) fn unusable(&self, file: &str, what: impl ToString) -> AuthorityError {
        AuthorityError::Unusable { path: self.origin.join(file), what: what.to_string() }
    }
}

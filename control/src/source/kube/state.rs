//! What was told of one kind, and what an object that comes changes about it: a pure fold.

use super::{
    kinds::Shape,
    object::{Digest, Raw},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeMap, marker::PhantomData};
use weft_api::{Object, ObjectKey, Parsed};
use weft_index::{Change, Finding, Severity};

/// Namespace and name.
type Name = (String, String);

/// What is kept of each object: enough to see whether it changed.
#[derive(Debug)]
struct Known {
    digest: Digest,
    told: Told,
}

/// Which version of an object the fold has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// None: no version of it could be read.
    Nothing,
    /// What is left of a policy that cannot be read.
    Broken,
    /// One that can be read, if not the newest.
    Good,
}

/// One kind's state.
pub(super) struct State<S> {
    known: FxHashMap<Name, Known>,
    /// Those that the list under way named, and `None` where there is none under way.
    listed: Option<FxHashSet<Name>>,
    findings: BTreeMap<Name, Vec<Finding>>,
    /// The findings that were told last.
    told: Vec<Finding>,
    shape: PhantomData<fn() -> S>,
}

impl<S: Shape> State<S> {
    pub(super) fn new() -> Self {
        Self {
            known: FxHashMap::default(),
            listed: None,
            findings: BTreeMap::new(),
            told: Vec::new(),
            shape: PhantomData,
        }
    }

    /// A list begins; one that was under way is given up.
    pub(super) fn list(&mut self) {
        self.listed = Some(FxHashSet::default());
    }

    /// The list is whole: what it did not name is gone.
    pub(super) fn list_done(&mut self) -> Vec<Change> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone: Vec<Name> = self.known.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        gone.into_iter().filter_map(|name| self.remove(name)).collect()
    }

    /// There are none any more.
    pub(super) fn clear(&mut self) -> Vec<Change> {
        self.list();
        self.list_done()
    }

    /// An object is there.
    pub(super) fn put(&mut self, raw: Raw<S>) -> Option<Change> {
        let (name, digest) = (raw.name(), raw.digest());
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let before = self.known.get(&name);
        if before.is_some_and(|known| known.digest == digest) {
            return None;
        }
        let before = before.map_or(Told::Nothing, |known| known.told);
        let (told, change, findings) = match Object::parse(raw.into_manifest()) {
            Ok(Parsed::Object(object, unknown)) => {
                let key = object.key();
                let findings = unknown.into_iter().map(|field| unknown_field(&key, field)).collect();
                (Told::Good, Some(Change::Put(object)), findings)
            }
            // The kind is known, so this is not reached.
            Ok(Parsed::Foreign { .. }) => (before, None, Vec::new()),
            Err(error) => {
                // A version that can be read goes on to hold beside one that cannot.
                let left = error.left.filter(|_| before != Told::Good);
                let told = if left.is_some() { Told::Broken } else { before };
                let change = left.map(|left| Change::Put(Box::new(Object::Broken(*left))));
                let key = error.object.unwrap_or_else(|| key_of::<S>(&name));
                (told, change, vec![unreadable(key, error.field, error.message, before)])
            }
        };
        if findings.is_empty() {
            self.findings.remove(&name);
        } else {
            self.findings.insert(name.clone(), findings);
        }
        self.known.insert(name, Known { digest, told });
        change
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, name: Name) -> Option<Change> {
        self.findings.remove(&name);
        let known = self.known.remove(&name)?;
        (known.told != Told::Nothing).then(|| Change::Gone(key_of::<S>(&name)))
    }

    /// What of the objects cannot be read now.
    pub(super) fn findings(&self) -> Vec<Finding> {
        self.findings.values().flatten().cloned().collect()
    }

    /// Gives `findings` back where they are others than last time.
    pub(super) fn changed(&mut self, findings: Vec<Finding>) -> Option<Vec<Finding>> {
        if self.told == findings {
            return None;
        }
        self.told.clone_from(&findings);
        Some(findings)
    }
}

fn key_of<S: Shape>((namespace, name): &Name) -> ObjectKey {
    ObjectKey { kind: S::KIND, namespace: namespace.clone(), name: name.clone() }
}

fn unknown_field(key: &ObjectKey, field: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        file: None,
        object: Some(key.clone()),
        field,
        message: "no such field; it is ignored".into(),
        mend: "see how it is spelt, and under which field it belongs".into(),
    }
}

fn unreadable(key: ObjectKey, field: String, message: String, before: Told) -> Finding {
    let mend = match before {
        Told::Good => "mend the field; the last good version of the object stays in force",
        Told::Broken | Told::Nothing => "mend the field",
    };
    Finding { severity: Severity::Error, file: None, object: Some(key), field, message, mend: mend.into() }
}

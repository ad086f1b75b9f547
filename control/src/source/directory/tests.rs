use super::*;
use std::fs;
use weft_api::{Kind, Object};
use weft_index::{Change, Severity};

/// A scanner over a directory of its own, and a clock that the test moves.
struct Fixture {
    dir: tempfile::TempDir,
    scanner: Scanner,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scanner = Scanner::new(dir.path().to_owned());
        Self { dir, scanner, now: Instant::now() }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Looks again after `millis`; answers the changes in short, and the number of errors.
    fn scan(&mut self, millis: u64) -> Option<(Vec<String>, usize)> {
        self.now += Duration::from_millis(millis);
        let batch = self.scanner.scan(self.now)?;
        let short = |c: &Change| match c {
            Change::Put(o) => format!("put {}", o.key()),
            Change::Gone(key) => format!("gone {key}"),
        };
        let errors = batch.findings.iter().filter(|f| f.severity == Severity::Error).count();
        Some((batch.changes.iter().map(short).collect(), errors))
    }
}

fn account(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop}}\n")
}

fn changes(list: &[&str]) -> Option<(Vec<String>, usize)> {
    Some((list.iter().map(ToString::to_string).collect(), 0))
}

#[test]
fn reads_all_forms_and_tells_only_what_changed() {
    let mut f = Fixture::new();
    f.write("a.yaml", &(account("a") + &account("b")));
    f.write(
        "deep/er/c.json",
        r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"c","namespace":"shop"}}"#,
    );
    f.write("list.yml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: d, namespace: shop}}\n");
    f.write("notes.txt", "kind: Pod");
    f.write(".hidden/x.yaml", &account("x"));
    f.write("other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w}\n");
    let all = ["a", "b", "c", "d"].map(|n| format!("put ServiceAccount shop/{n}"));
    assert_eq!(f.scan(0), Some((all.to_vec(), 0)));
    assert_eq!(f.scan(1000), None);
    f.write(
        "a.yaml",
        &(account("a") + &account("b").replace("namespace: shop", "namespace: shop, labels: {x: y}")),
    );
    assert_eq!(f.scan(1000), changes(&["put ServiceAccount shop/b"]));
}

#[test]
fn what_vanishes_is_believed_only_when_the_file_has_settled() {
    let mut f = Fixture::new();
    let whole = account("a") + &account("b");
    f.write("a.yaml", &whole);
    f.scan(0);
    // Caught while it is written: first empty, then cut off, then whole again.
    f.write("a.yaml", "");
    assert_eq!(f.scan(1), None);
    assert!(f.scanner.recheck_in(f.now).unwrap() <= Duration::from_millis(50));
    f.write("a.yaml", &account("a"));
    assert_eq!(f.scan(40), None);
    f.write("a.yaml", &whole);
    assert_eq!(f.scan(40), None);
    assert_eq!(f.scan(1000), None, "nothing was lost");
    // Really gone.
    f.write("a.yaml", &account("a"));
    assert_eq!(f.scan(1), None);
    assert_eq!(f.scan(60), changes(&["gone ServiceAccount shop/b"]));
    fs::remove_file(f.dir.path().join("a.yaml")).unwrap();
    assert_eq!(f.scan(1), None);
    assert_eq!(f.scan(60), changes(&["gone ServiceAccount shop/a"]));
    assert_eq!(f.scanner.recheck_in(f.now), None);
}

#[test]
fn a_move_between_files_is_no_change() {
    let mut f = Fixture::new();
    f.write("a.yaml", &account("a"));
    f.scan(0);
    fs::rename(f.dir.path().join("a.yaml"), f.dir.path().join("b.yaml")).unwrap();
    assert_eq!(f.scan(1), None);
    assert_eq!(f.scan(1000), None);
}

#[test]
fn a_broken_file_keeps_what_it_said_and_hurts_nobody_else() {
    let mut f = Fixture::new();
    f.write("a.yaml", &(account("a") + &account("b")));
    f.write("c.yaml", &account("c"));
    f.scan(0);
    f.write("a.yaml", &(account("a") + "---\nkind: [unclosed\n"));
    f.write("c.yaml", &(account("c") + &account("d")));
    let (changed, errors) = f.scan(1).unwrap();
    assert_eq!((changed, errors), (vec!["put ServiceAccount shop/d".to_owned()], 1));
    assert_eq!(f.scan(5000), None, "b stays for as long as the file is broken");
    f.write("a.yaml", &account("a"));
    assert_eq!(f.scan(1), changes(&[]), "the error is gone, b not yet");
    assert_eq!(f.scan(60), changes(&["gone ServiceAccount shop/b"]));
}

#[test]
fn a_bad_version_of_an_object_leaves_the_good_one() {
    let mut f = Fixture::new();
    let policy = |field: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{{field}: DENY}}\n"
        )
    };
    f.write("p.yaml", &policy("action"));
    f.scan(0);
    f.write("p.yaml", &policy("acton"));
    let batch = f.scanner.scan(f.now + Duration::from_secs(9)).unwrap();
    assert!(batch.changes.is_empty());
    let [finding] = &batch.findings[..] else { panic!("{:?}", batch.findings) };
    let text = finding.to_string();
    for part in ["p.yaml", "AuthorizationPolicy shop/p", "spec.acton", "unknown field"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

fn policy_of(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

#[test]
fn what_is_left_of_a_policy_speaks_for_it_only_while_no_good_version_does() {
    let mut f = Fixture::new();
    let (good, bad) =
        ("{selector: {matchLabels: {app: a}}}", "{selector: {matchLabels: {app: a}}, acton: DENY}");
    let is_broken = |batch: &Batch| {
        let [Change::Put(object)] = &batch.changes[..] else { panic!("{:?}", batch.changes) };
        object.is_broken()
    };
    f.write("p.yaml", &policy_of("p", bad));
    assert!(is_broken(&f.scanner.scan(f.now).unwrap()));
    // Another file has it right.
    f.write("q.yaml", &policy_of("p", good));
    let batch = f.scanner.scan(f.now).unwrap();
    assert!(!is_broken(&batch) && batch.findings.len() == 1, "{:?}", batch.findings);
    f.write("q.yaml", &policy_of("p", bad));
    assert_eq!(f.scan(9000).unwrap().0, [""; 0], "it was good once");
    f.write("q.yaml", &policy_of("p", good));
    f.write("p.yaml", "");
    assert_eq!(f.scan(1), changes(&[]));
    fs::remove_file(f.dir.path().join("q.yaml")).unwrap();
    assert_eq!(f.scan(1), None);
    assert_eq!(f.scan(60), changes(&["gone AuthorizationPolicy shop/p"]));
}

#[test]
fn an_object_in_two_files_is_taken_from_the_first() {
    let mut f = Fixture::new();
    f.write("a.yaml", &account("a"));
    f.write("b.yaml", &account("a").replace("namespace: shop", "namespace: shop, labels: {x: y}"));
    let batch = f.scanner.scan(f.now).unwrap();
    let [Change::Put(object)] = &batch.changes[..] else { panic!("{:?}", batch.changes) };
    assert!(object.metadata().labels.is_none());
    assert!(batch.findings[0].to_string().contains("also stands in"), "{}", batch.findings[0]);
}

#[test]
fn a_swapped_symlink_is_followed() {
    let mut f = Fixture::new();
    f.write("..v1/a.yaml", &account("a"));
    f.write("..v2/a.yaml", &(account("a") + &account("b")));
    let root = f.dir.path().to_owned();
    std::os::unix::fs::symlink("..v1", root.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(f.scan(0), changes(&["put ServiceAccount shop/a"]));
    std::os::unix::fs::symlink("..v2", root.join("..tmp")).unwrap();
    fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
    assert_eq!(f.scan(1), changes(&["put ServiceAccount shop/b"]));
}

#[test]
fn a_directory_that_is_away_takes_nothing_with_it() {
    let mut f = Fixture::new();
    f.write("sub/a.yaml", &account("a"));
    f.scanner = Scanner::new(f.dir.path().join("sub"));
    f.scan(0);
    fs::rename(f.dir.path().join("sub"), f.dir.path().join("away")).unwrap();
    assert_eq!(f.scan(1), Some((vec![], 1)));
    assert_eq!(f.scan(1000), None);
}

#[tokio::test]
async fn a_change_is_noticed_without_waiting_for_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let mut batches = Box::new(DirectorySource::new(dir.path().to_owned())).start().unwrap();
    assert!(batches.recv().await.unwrap().changes.is_empty(), "the first batch comes even when it is empty");
    fs::create_dir(dir.path().join("new")).unwrap();
    fs::write(dir.path().join("new/a.yaml"), account("a")).unwrap();
    let batch = batches.recv().await.unwrap();
    let [Change::Put(object)] = &batch.changes[..] else { panic!("{:?}", batch.changes) };
    assert!(matches!(**object, Object::ServiceAccount(_)));
    assert_eq!(batch.places.keys().next().unwrap().kind, Kind::ServiceAccount);
}

/// What is put, in short, until `wanted` is among it.
async fn until(batches: &mut mpsc::Receiver<Batch>, wanted: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.iter().any(|name| name == wanted) {
        for change in batches.recv().await.unwrap().changes {
            if let Change::Put(object) = change {
                seen.push(object.key().name);
            }
        }
    }
    seen
}

#[tokio::test]
async fn a_file_that_is_still_open_is_not_believed_though_what_stands_in_it_is_sound() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let mut batches = Box::new(DirectorySource::new(dir.path().to_owned())).start().unwrap();
    batches.recv().await.unwrap();
    let mut open = fs::File::create(dir.path().join("a.yaml")).unwrap();
    open.write_all(account("half").as_bytes()).unwrap();
    for name in ["x", "y"] {
        fs::write(dir.path().join(format!("{name}.yaml")), account(name)).unwrap();
        assert_eq!(until(&mut batches, name).await, [name], "what stands beside it is");
    }
    open.write_all(account("whole").as_bytes()).unwrap();
    drop(open);
    assert_eq!(until(&mut batches, "whole").await, ["half", "whole"]);
}

use super::*;
use crate::issue::{authority::Lifetimes, generate, rotate};

const HOUR: Duration = Duration::from_secs(3600);
const LIFETIMES: Lifetimes = Lifetimes {
    leaf: HOUR,
    leaf_max: HOUR,
    root: Duration::from_secs(1 << 20),
    intermediate: Duration::from_secs(1 << 20),
    overlap: HOUR,
};

fn own() -> Files {
    generate::make("own".as_ref(), LIFETIMES, "td").unwrap()
}

/// An authority as users bring it: without the root's key.
fn brought() -> Files {
    copy(&generate::make("users".as_ref(), LIFETIMES, "td").unwrap(), "users".as_ref(), "td").unwrap()
}

/// The same root, and another signing certificate with a key of its own, as cert-manager renews it.
fn renewed(made: &Files) -> Files {
    let (root, root_key) =
        (made.certificates(ROOT_CERT).unwrap().swap_remove(0), made.key(ROOT_KEY).unwrap());
    let issuer = rcgen::Issuer::from_ca_cert_der(&root, root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = generate::intermediate("td", LIFETIMES).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let mut files = made.clone();
    files.put(CA_KEY, key.serialize_pem());
    files.put(CERT_CHAIN, signed.clone() + &pem(&root));
    files.put(CA_CERT, signed);
    files
}

/// Whether somebody who has the bundle of `trusting` accepts what `signing` signs.
fn trusts(trusting: &Files, signing: &Files) -> bool {
    signs_under(signing, &trusting.certificates(ROOT_CERT).unwrap())
}

/// Each of these is in force after the one before; whoever got a certificate under one meets those of the next.
fn overlap(stages: &[&Files]) {
    for pair in stages.windows(2) {
        assert!(trusts(pair[0], pair[1]) && trusts(pair[1], pair[0]));
    }
}

#[test]
fn what_appears_takes_over_with_an_overlap() {
    let (start, own, brought) = (OffsetDateTime::now_utc(), own(), brought());
    let announced = step(&own, &brought, start, "td").unwrap().unwrap();
    assert!(step(&announced, &brought, start, "td").unwrap().is_none(), "it is under way");
    assert_eq!(announced.texts[CA_CERT], own.texts[CA_CERT], "the old one signs");
    assert!(rotate::step(&announced, start + HOUR / 2, LIFETIMES, "td").unwrap().is_none());
    let signing = rotate::step(&announced, start + HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(signing.texts[CA_CERT], brought.texts[CA_CERT]);
    assert!(step(&signing, &brought, start + HOUR, "td").unwrap().is_none());
    let done = rotate::step(&signing, start + 2 * HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(done.texts, brought.texts, "nothing is left over, the old root's key least of all");
    assert!(step(&done, &brought, start + 2 * HOUR, "td").unwrap().is_none());
    overlap(&[&own, &announced, &signing, &done]);
    assert!(!trusts(&own, &signing), "that is the reason for the steps");
}

#[test]
fn another_signing_certificate_of_the_same_root_signs_at_once() {
    let (start, made) = (OffsetDateTime::now_utc(), own());
    let first = copy(&made, "users".as_ref(), "td").unwrap();
    let second = copy(&renewed(&made), "users".as_ref(), "td").unwrap();
    let next = step(&first, &second, start, "td").unwrap().unwrap();
    assert_eq!(next.texts, second.texts);
    overlap(&[&first, &next]);
}

#[test]
fn roots_that_a_user_adds_or_drops_by_hand_overlap_as_well() {
    let (start, old, new) = (OffsetDateTime::now_utc(), brought(), brought());
    let mut both = old.clone();
    both.put(ROOT_CERT, old.texts[ROOT_CERT].clone() + &new.texts[ROOT_CERT]);
    let announced = step(&old, &both, start, "td").unwrap().unwrap();
    assert_eq!(announced.texts, both.texts, "the bundle is told at once, the same signs");
    let mut turned = new.clone();
    turned.put(ROOT_CERT, both.texts[ROOT_CERT].clone());
    // It is too early for that: not everybody has the bundle.
    let waiting = step(&announced, &turned, start, "td").unwrap().unwrap();
    assert_eq!(waiting.texts[CA_CERT], old.texts[CA_CERT]);
    let signing = rotate::step(&waiting, start + HOUR, LIFETIMES, "td").unwrap().unwrap();
    // The user drops the old root; those who hold a certificate under it are served for the overlap.
    let dropping = step(&signing, &new, start + HOUR, "td").unwrap().unwrap();
    assert!(trusts(&dropping, &old));
    let done = rotate::step(&dropping, start + 2 * HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(done.texts, new.texts);
    overlap(&[&old, &announced, &waiting, &signing, &dropping, &done]);
}

#[test]
fn what_changes_while_it_is_announced_or_goes_leaves_nobody_behind() {
    let (start, own, one, two) = (OffsetDateTime::now_utc(), own(), brought(), brought());
    let announced = step(&own, &one, start, "td").unwrap().unwrap();
    let again = step(&announced, &two, start + HOUR / 2, "td").unwrap().unwrap();
    assert!(rotate::step(&again, start + HOUR, LIFETIMES, "td").unwrap().is_none(), "its time begins anew");
    let signing = rotate::step(&again, start + 2 * HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(signing.texts[CA_CERT], two.texts[CA_CERT]);
    overlap(&[&own, &announced, &again, &signing]);

    let left = give_up(&announced, start + HOUR / 2).unwrap().unwrap();
    assert!(give_up(&left, start).unwrap().is_none() && give_up(&own, start).unwrap().is_none());
    let back = rotate::step(&left, start + 2 * HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(back.texts, own.texts, "what was in force is in force, its root's key with it");
}

#[test]
fn control_takes_back_what_a_user_brought() {
    let (start, brought, own) = (OffsetDateTime::now_utc(), brought(), own());
    let announced = begin(&brought, &own, start).unwrap();
    assert!(give_up(&announced, start).unwrap().is_none(), "nobody needs to bring it");
    let signing = rotate::step(&announced, start + HOUR, LIFETIMES, "td").unwrap().unwrap();
    let done = rotate::step(&signing, start + 2 * HOUR, LIFETIMES, "td").unwrap().unwrap();
    assert_eq!(done.texts, own.texts, "with the key to renew it");
    overlap(&[&brought, &announced, &signing, &done]);
}

#[test]
fn what_nobody_could_verify_changes_nothing() {
    let (in_force, good, other) = (own(), brought(), brought());
    let now = OffsetDateTime::now_utc();
    let with = |name: &str, text: &str| {
        let mut files = good.clone();
        files.put(name, text.to_owned());
        files
    };
    for (broken, named) in [
        (with(ROOT_CERT, &other.texts[ROOT_CERT]), "nobody could verify"),
        (with(CA_KEY, &other.texts[CA_KEY]), "does not belong to the key"),
        (with(CA_CERT, "no PEM"), CA_CERT),
        (with(ROOT_CERT, ""), ROOT_CERT),
    ] {
        let error = step(&in_force, &broken, now, "td").unwrap_err().to_string();
        assert!(error.contains(named) && error.contains("users"), "{error}");
    }
    let mut less = good.clone();
    less.texts.remove(CERT_CHAIN);
    assert!(step(&in_force, &less, now, "td").unwrap_err().to_string().contains(CERT_CHAIN));
}

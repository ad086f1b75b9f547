//! What the API said of tokens, for a while.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustc_hash::FxHashMap;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// For so long a good answer is believed: a pod's token goes on to count for no longer than this once the pod is gone.
const FRESH: Duration = Duration::from_secs(60);
/// For so long a refusal is believed.
const REFUSED: Duration = Duration::from_secs(10);
/// For so long a good answer is believed while the API is away, if the token itself lives as long.
const STALE: Duration = Duration::from_secs(15 * 60);
/// So many answers are kept. A mesh of more nodes has more of them reviewed.
const MOST: usize = 16 * 1024;

/// A token's digest: the cache holds no tokens.
pub(super) type Key = [u8; 32];

/// What the API said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is that of an agent on this node.
    Node(String),
    /// It is not an agent's, and why.
    Refused(String),
}

#[derive(Debug)]
struct Entry {
    known: Known,
    at: Instant,
    /// When the token ends by its own word.
    expiry: Option<SystemTime>,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<FxHashMap<Key, Entry>>);

pub(super) fn key(token: &str) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// When a token ends by its own word, which the API has checked.
pub(super) fn expiry(token: &str) -> Option<SystemTime> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(claims.get("exp")?.as_u64()?))
}

impl Cache {
    /// What is known of a token, and new enough.
    pub(super) fn fresh(&self, key: &Key, now: Instant, time: SystemTime) -> Option<Known> {
        let entries = self.entries();
        let entry = entries.get(key)?;
        let lives = entry.expiry.is_none_or(|end| time < end);
        (lives && now.duration_since(entry.at) < entry.life()).then(|| entry.known.clone())
    }

    /// What is known of a token where the API cannot be asked.
    pub(super) fn stale(&self, key: &Key, now: Instant, time: SystemTime) -> Option<Known> {
        let entries = self.entries();
        let entry = entries.get(key)?;
        let lives = entry.expiry.is_some_and(|end| time < end) && matches!(entry.known, Known::Node(_));
        (lives && now.duration_since(entry.at) < STALE).then(|| entry.known.clone())
    }

    /// Keeps an answer.
    pub(super) fn put(&self, key: Key, known: Known, expiry: Option<SystemTime>, now: Instant) {
        let mut entries = self.entries();
        for (full, life) in [(MOST, STALE), (MOST, FRESH), (MOST, Duration::ZERO)] {
            if entries.len() >= full {
                entries.retain(|_, e| now.duration_since(e.at) < life.min(e.longest()));
            }
        }
        entries.insert(key, Entry { known, at: now, expiry });
    }

    fn entries(&self) -> MutexGuard<'_, FxHashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn life(&self) -> Duration {
        if matches!(self.known, Known::Node(_)) { FRESH } else { REFUSED }
    }

    fn longest(&self) -> Duration {
        if matches!(self.known, Known::Node(_)) { STALE } else { REFUSED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_believed_for_a_while_and_longer_only_while_the_api_is_away() {
        let (cache, now, time) = (Cache::default(), Instant::now(), SystemTime::now());
        let (good, bad, old) = (key("good"), key("bad"), key("old"));
        let node = Known::Node("n1".into());
        cache.put(good, node.clone(), Some(time + STALE * 2), now);
        cache.put(bad, Known::Refused("no".into()), Some(time + STALE * 2), now);
        cache.put(old, node.clone(), Some(time + FRESH), now);
        assert_eq!(cache.fresh(&good, now, time), Some(node.clone()));
        assert!(cache.fresh(&bad, now, time).is_some() && cache.fresh(&bad, now + REFUSED, time).is_none());
        assert_eq!(cache.fresh(&good, now + FRESH, time), None);
        assert!(cache.fresh(&old, now, time).is_some());
        assert_eq!(cache.fresh(&old, now, time + FRESH), None, "it ended, though it was reviewed just now");
        assert_eq!(cache.stale(&good, now + FRESH, time + FRESH), Some(node));
        assert_eq!(cache.stale(&good, now + STALE, time + STALE), None);
        assert_eq!(cache.stale(&bad, now + REFUSED, time), None, "a refusal is asked for again");
        assert_eq!(cache.stale(&old, now + FRESH, time + FRESH), None, "it ended by its own word");
    }

    #[test]
    fn no_number_of_tokens_takes_all_the_memory() {
        let (cache, now) = (Cache::default(), Instant::now());
        for n in 0..3 * MOST {
            cache.put(key(&n.to_string()), Known::Node("n".into()), None, now);
        }
        assert!(cache.entries().len() <= MOST);
    }

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        let claims = URL_SAFE_NO_PAD.encode(br#"{"exp": 5, "iss": "k"}"#);
        assert_eq!(expiry(&format!("h.{claims}.s")), Some(UNIX_EPOCH + Duration::from_secs(5)));
        for none in ["", "h", "h.!.s", "h.e30.s", &format!("h.{}.s", URL_SAFE_NO_PAD.encode(r#"{"exp":-1}"#))]
        {
            assert_eq!(expiry(none), None, "{none}");
        }
    }
}

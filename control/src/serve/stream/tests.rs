use super::*;
use weft_model::{Delta, Policy, PolicyKey, Service, policy::Action, policy::PolicyScope};

fn request(kind: Kind, nonce: &str) -> DeltaDiscoveryRequest {
    let (type_url, response_nonce) = (kind.type_url().to_owned(), nonce.to_owned());
    DeltaDiscoveryRequest { type_url, response_nonce, ..DeltaDiscoveryRequest::default() }
}

fn policy(name: &str) -> Delta {
    Delta::Policy(Policy {
        key: PolicyKey { namespace: "shop".into(), name: name.into() },
        scope: PolicyScope::Selector,
        action: Action::Deny,
        dry_run: false,
        rules: vec![],
    })
}

type Sent = mpsc::Receiver<Result<DeltaDiscoveryResponse, Status>>;

fn session(resources: &Arc<Resources>) -> (Session, Sent) {
    let (sender, sent) = mpsc::channel(8);
    let session = Session {
        node: "n1".into(),
        resources: resources.clone(),
        metrics: Arc::default(),
        entry: Arc::new(Agents::default()).enter("n1".into()),
        sender,
        subscriptions: Default::default(),
        nonces: 0,
        quiet_until: Instant::now(),
        is_late: false,
    };
    (session, sent)
}

#[tokio::test]
async fn addresses_wait_for_the_policies_that_are_under_way() {
    let resources = Arc::new(Resources::default());
    let (mut session, mut sent) = session(&resources);
    let mut next = async |session: &mut Session| {
        session.send_all().await.unwrap();
        let response = sent.try_recv().unwrap().unwrap();
        assert!(sent.try_recv().is_err(), "one at a time");
        (Kind::from_type_url(&response.type_url).unwrap(), response.nonce)
    };
    session.take(request(Kind::Address, "")).unwrap();
    session.take(request(Kind::Authorization, "")).unwrap();
    let (kind, policies) = next(&mut session).await;
    assert_eq!(kind, Kind::Authorization);
    session.take(request(Kind::Authorization, &policies)).unwrap();
    let (kind, addresses) = next(&mut session).await;
    assert_eq!(kind, Kind::Address);
    session.take(request(Kind::Address, &addresses)).unwrap();

    resources.apply(&[Delta::Service(Service::new("shop", "web", "web")), policy("one")]);
    let (kind, policies) = next(&mut session).await;
    assert_eq!(kind, Kind::Authorization);
    // Another policy comes before the node has taken the first: the address waits for both.
    resources.apply(&[policy("two")]);
    session.take(request(Kind::Authorization, &policies)).unwrap();
    let (kind, policies) = next(&mut session).await;
    assert_eq!(kind, Kind::Authorization);
    session.take(request(Kind::Authorization, &policies)).unwrap();
    assert_eq!(next(&mut session).await.0, Kind::Address);
}

#[tokio::test]
async fn what_is_cut_says_that_more_follows() {
    let resources = Arc::new(Resources::default());
    let large =
        |name: &str| Delta::Service(Service::new("shop", name, format!("{name}{}", "x".repeat(3 << 19))));
    resources.apply(&[large("a"), large("b"), large("c")]);
    let (mut session, mut sent) = session(&resources);
    session.take(request(Kind::Address, "")).unwrap();
    let mut parts = Vec::new();
    for _ in 0..3 {
        session.send_all().await.unwrap();
        let response = sent.try_recv().unwrap().unwrap();
        session.take(request(Kind::Address, &response.nonce)).unwrap();
        parts.push((response.resources.len(), response.more_follows));
    }
    assert_eq!(parts, [(1, true), (1, true), (1, false)]);
}

#[tokio::test(start_paused = true)]
async fn what_changes_within_a_moment_is_told_together_where_many_listen() {
    let resources = Arc::new(Resources::default());
    let (mut session, mut sent) = session(&resources);
    let crowd: Vec<_> = (0..999).map(|n| session.entry.beside(format!("n{n}"))).collect();
    session.take(request(Kind::Address, "")).unwrap();
    session.send_all().await.unwrap();
    let first = sent.try_recv().unwrap().unwrap();
    session.take(request(Kind::Address, &first.nonce)).unwrap();
    let mut told = async |session: &mut Session| {
        session.send_all().await.unwrap();
        let response = sent.try_recv().ok()?.unwrap();
        session.take(request(Kind::Address, &response.nonce)).unwrap();
        Some(response.resources.len())
    };
    let change = |name: &str| resources.apply(&[Delta::Service(Service::new("shop", name, name))]);
    change("a");
    assert_eq!(told(&mut session).await, Some(1), "the first one waits for nothing");
    for name in ["b", "c", "d"] {
        change(name);
        assert_eq!(told(&mut session).await, None, "{name}");
        assert!(session.is_late, "nobody comes back to it");
    }
    tokio::time::advance(pace(1000)).await;
    assert_eq!(told(&mut session).await, Some(3));
    drop(crowd);
    tokio::time::advance(LONGEST_PACE).await;
    for name in ["e", "f"] {
        change(name);
        assert_eq!(told(&mut session).await, Some(1), "{name}: a few nodes wait for nothing");
    }
    assert!(pace(1_000_000) == LONGEST_PACE && pace(2).is_zero());
}

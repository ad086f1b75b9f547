use super::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::net::TcpListener;
use tonic::Code;

/// An API that takes connections and answers nothing: the number of those that it took.
async fn silent() -> (Client, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            open.push(stream);
        }
    });
    let config = kube::Config::new(url.parse().unwrap());
    (Client::try_from(config).unwrap(), taken)
}

fn request(token: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    metadata
}

#[tokio::test]
async fn an_api_that_does_not_answer_lets_nobody_in_and_keeps_nobody_in_line() {
    let (client, taken) = silent().await;
    let reviews = Arc::new(TokenReviews::new(client, "weft-system"));
    let callers: Vec<_> = (0..10 * REVIEWS)
        .map(|n| {
            let reviews = reviews.clone();
            tokio::spawn(async move { reviews.authenticate(&request(&format!("token-{n}"))).await })
        })
        .collect();
    // One after the other they would wait for ten times as long as one review may take.
    let all = tokio::time::timeout(4 * PATIENCE, futures::future::join_all(callers)).await;
    for answer in all.expect("somebody is kept waiting") {
        let status = answer.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    assert!(taken.load(SeqCst) <= 4 * REVIEWS, "the API is asked by {} at once", taken.load(SeqCst));
    assert_eq!(
        reviews.authenticate(&request(&"x".repeat(LONGEST + 1))).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

//! Commands that are kept, and the keys by which they are compared.

use super::super::fixture::commands;
use super::*;

impl Cloud {
    async fn keyed(&self, key: &str, query: &str, body: &'static str) -> Answer {
        let request = self.fixture.request(Method::POST, &format!("{PATH}?{query}"), &self.token);
        answer(request.header("idempotency-key", key).body(body)).await
    }

    async fn kept(&self, query: &str) -> String {
        let answer = self.post(query).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_is_the_same_command() {
    let cloud = Cloud::new().await;
    let first = cloud.keyed("k", "ttl=1m", "on").await;
    assert_eq!(first.status, 202, "{first:?}");
    let again = cloud.keyed("k", "ttl=1m", "on").await;
    assert_eq!((again.status, again.json()), (202, first.json()));
    for (query, body) in [("ttl=1m", "off"), ("ttl=2m", "on"), ("", "on")] {
        assert!(cloud.keyed("k", query, body).await.problem(409).contains("idempotency-key"), "{query}");
    }
    assert_ne!(cloud.keyed("other", "ttl=1m", "on").await.json(), first.json());
    // Who asks again learns what became of it, also long after.
    let (_session, connection) = cloud.connect().await;
    let (delivery, id) = begun(&connection).await;
    assert_eq!(first.json()["id"], id.as_str());
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    for _ in 0..2 {
        let answer = cloud.keyed("k", "ttl=1m&wait=delivered", "on").await;
        assert_eq!((answer.status, &answer.json()["id"]), (200, &first.json()["id"]), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_command_takes_the_place_of_one_with_its_key() {
    let cloud = Cloud::new().await;
    let [old, other] = [cloud.kept("ttl=1m&supersede=a").await, cloud.kept("ttl=1m&supersede=b").await];
    let new = cloud.kept("ttl=1m&supersede=a").await;
    let state = async |id: &str| cloud.get(&format!("{DEVICE}/commands/{id}")).await["state"].clone();
    common::testing::eventually_async("it is superseded", async || state(&old).await == "superseded").await;
    let (_session, connection) = cloud.connect().await;
    for id in [other, new] {
        let (delivery, given) = begun(&connection).await;
        assert_eq!(given.as_str(), id);
        delivery.finish(Outcome::Delivered(Confirmation::Puback));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_so_many_commands_waiting_and_no_more() {
    let cloud = Cloud::new().await;
    for _ in 0..50 {
        cloud.kept("ttl=1m").await;
    }
    let detail = cloud.post("ttl=1m").await.problem(429);
    assert!(detail.contains("50") && detail.contains("--max-pending"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_of_one_state_or_all() {
    let cloud = Cloud::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(cloud.kept("ttl=1m").await);
    }
    cloud.delete(&format!("{DEVICE}/commands/{}", ids[1])).await;
    let list = async |query: &str| {
        let page = cloud.get(&format!("{DEVICE}/commands?{query}")).await;
        let items = page["items"].as_array().unwrap().iter();
        let items: Vec<_> = items.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (items, page["after"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (ids.clone(), None));
    assert_eq!(list("state=cancelled").await, (vec![ids[1].clone()], None));
    let (first, after) = list("state=pending&limit=3").await;
    assert_eq!(first, [ids[0].clone(), ids[2].clone(), ids[3].clone()]);
    let rest = list(&format!("state=pending&limit=3&after={}", after.unwrap())).await;
    assert_eq!(rest, (vec![ids[4].clone()], None));
    for bad in ["state=lost", "limit=0", "limit=101", "after=a%20b"] {
        cloud.fixture.get(&format!("{DEVICE}/commands?{bad}"), &cloud.token).await.problem(400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_cancelled_and_nothing_else() {
    let cloud = Cloud::new().await;
    let path = |id: &str| format!("{DEVICE}/commands/{id}");
    let waiting = cloud.send("ttl=1m&wait=delivered");
    let pending =
        async || cloud.get(&format!("{DEVICE}/commands?state=pending")).await["items"][0]["id"].clone();
    common::testing::eventually_async("it waits", async || pending().await.is_string()).await;
    let id = pending().await.as_str().unwrap().to_owned();
    let cancelled = cloud.delete(&path(&id)).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(not_reached(&waiting.await.unwrap()).0, "cancelled");
    assert_eq!(not_reached(&cloud.delete(&path(&id)).await).0, "cancelled");
    // Nor what its device has, or what nobody knows.
    let (_session, connection) = cloud.connect().await;
    let delivered = cloud.kept("ttl=1m").await;
    let (delivery, given) = begun(&connection).await;
    assert_eq!(given.as_str(), delivered, "nobody saw the other");
    assert_eq!(cloud.delete(&path(&delivered)).await.status, 409);
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    let state = async || not_reached(&cloud.delete(&path(&delivered)).await).0;
    common::testing::eventually_async("it is delivered", async || state().await == "delivered").await;
    cloud.delete(&path("unknown")).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_channel_refused_is_found_all_the_same() {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start(&channel).await;
    let token = fixture.token("app", &[Scope::Command]).await;
    channel.fail_next(common::channel::PublishError::Unavailable("down".into()));
    fixture.post(&format!("{PATH}?ttl=1m"), &token, "on").await.problem(503);
    let answer = fixture.get(&format!("{DEVICE}/commands?state=pending"), &token).await;
    assert_eq!(
        answer.json()["items"].as_array().map(Vec::len),
        Some(1),
        "its row is there, and is published later"
    );
    assert!(commands(&channel).is_empty());
}

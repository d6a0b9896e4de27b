//! What may speak against a topic that somebody else made: settings with which a promise cannot be kept.

use rdkafka::admin::ConfigResource;

/// The settings of a topic on which promises rest.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    cleanup: String,
    in_sync: i32,
    replicas: i32,
    unclean: bool,
    max_event: usize,
}

/// What speaks against a topic.
#[derive(Debug, PartialEq)]
pub(super) struct Objection {
    pub(super) text: String,
    /// A promise would be broken, against what was asked for.
    pub(super) breaks: bool,
}

impl Found {
    /// Reads the settings of a topic of which each record has so many replicas.
    pub(super) fn of(config: &ConfigResource, replicas: i32) -> Self {
        let value = |name: &str| config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
        Self {
            cleanup: value("cleanup.policy"),
            in_sync: value("min.insync.replicas").parse().unwrap_or(1),
            replicas,
            unclean: value("unclean.leader.election.enable") == "true",
            max_event: value("max.message.bytes").parse().unwrap_or(usize::MAX),
        }
    }

    /// Says what speaks against the topic. `wanted` replicas in sync may have been asked for, or be the default.
    pub(super) fn objections(
        &self,
        topic: &str,
        wanted: i32,
        was_asked: bool,
        max_event: usize,
    ) -> Vec<Objection> {
        let all = [
            self.compaction(topic).map(|text| Objection { text, breaks: true }),
            self.no_events(topic).map(|text| Objection { text, breaks: true }),
            self.few_replicas(topic, wanted).map(|text| Objection { text, breaks: was_asked }),
            self.unclean_election(topic).map(|text| Objection { text, breaks: false }),
            self.small_events(topic, max_event).map(|text| Objection { text, breaks: false }),
        ];
        all.into_iter().flatten().collect()
    }

    fn compaction(&self, topic: &str) -> Option<String> {
        let cure = change(topic, "cleanup.policy=delete");
        self.cleanup.contains("compact").then(|| {
            format!(
                "the topic {topic} has cleanup.policy={}, and compaction deletes events that were accepted; {cure}, or \
                 choose other topics (option --kafka-topic-prefix)",
                self.cleanup
            )
        })
    }

    fn no_events(&self, topic: &str) -> Option<String> {
        let Self { in_sync, replicas, .. } = self;
        let cure = change(topic, &format!("min.insync.replicas={replicas}"));
        (in_sync > replicas).then(|| {
            format!(
                "the topic {topic} has min.insync.replicas={in_sync} and only {replicas} replicas, so that it takes no \
                 event; {cure}"
            )
        })
    }

    fn few_replicas(&self, topic: &str, wanted: i32) -> Option<String> {
        let cure = change(topic, &format!("min.insync.replicas={wanted}"));
        (self.in_sync < wanted).then(|| {
            format!(
                "the topic {topic} has min.insync.replicas={}, so that an event is acknowledged by fewer brokers than the \
                 {wanted} that are asked for; {cure}, or ask for fewer (option --kafka-min-insync-replicas)",
                self.in_sync
            )
        })
    }

    fn unclean_election(&self, topic: &str) -> Option<String> {
        let cure = change(topic, "unclean.leader.election.enable=false");
        self.unclean.then(|| {
            format!(
                "the topic {topic} has unclean.leader.election.enable=true, which can lose acknowledged events; {cure}"
            )
        })
    }

    fn small_events(&self, topic: &str, max_event: usize) -> Option<String> {
        let cure = change(topic, &format!("max.message.bytes={max_event}"));
        (self.max_event < max_event).then(|| {
            format!(
                "the topic {topic} has max.message.bytes={}, less than the {max_event} that the largest payload may need; \
                 {cure}, or lower --max-payload",
                self.max_event
            )
        })
    }
}

fn change(topic: &str, setting: &str) -> String {
    format!(
        "change it with kafka-configs.sh --entity-type topics --entity-name {topic} --alter --add-config {setting}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Found {
        Found { cleanup: "delete".into(), in_sync: 2, replicas: 3, unclean: false, max_event: 1 << 20 }
    }

    fn objections(found: &Found, was_asked: bool) -> Vec<Objection> {
        found.objections("drogue.commands", 2, was_asked, 1 << 20)
    }

    #[test]
    fn nothing_speaks_against_a_good_topic() {
        assert_eq!(objections(&good(), true), []);
    }

    #[test]
    fn a_setting_that_breaks_a_promise_is_named_with_its_cure() {
        for (found, setting, breaks) in [
            (Found { cleanup: "compact,delete".into(), ..good() }, "cleanup.policy=delete", true),
            (Found { in_sync: 4, ..good() }, "min.insync.replicas=3", true),
            (Found { in_sync: 1, ..good() }, "min.insync.replicas=2", true),
            (Found { unclean: true, ..good() }, "unclean.leader.election.enable=false", false),
            (Found { max_event: 10, ..good() }, "max.message.bytes=1048576", false),
        ] {
            let all = objections(&found, true);
            assert_eq!(all.len(), 1, "{all:?}");
            assert!(all[0].text.contains("drogue.commands") && all[0].text.contains(setting), "{all:?}");
            assert_eq!(all[0].breaks, breaks, "{all:?}");
        }
    }

    #[test]
    fn fewer_replicas_than_the_default_may_be_meant_so() {
        let found = Found { in_sync: 1, ..good() };
        assert!(!objections(&found, false)[0].breaks);
    }
}

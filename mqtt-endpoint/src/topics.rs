//! What the topics to which a device publishes stand for, and its topic aliases.

use std::num::NonZeroU16;
use std::ops::ControlFlow;

use common::error::ErrorKind;
use common::ingest::Rejected;
use common::service::MessageKind;
use common::subject::Subject;
use ntex::util::ByteString;

use crate::replies::ReplyTopic;
use crate::reply::Goodbye;

/// What a topic stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    /// Telemetry with this subject.
    Subject(Subject),
    /// Replies to a command.
    Reply(ReplyTopic),
}

/// A topic that stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidTopic {
    /// What it would have been for.
    pub(crate) kind: MessageKind,
    pub(crate) error: ErrorKind,
}

impl Target {
    /// Returns what is published to it.
    pub(crate) fn kind(&self) -> MessageKind {
        match self {
            Self::Subject(_) => MessageKind::Telemetry,
            Self::Reply(_) => MessageKind::Reply,
        }
    }

    fn parse(topic: &str) -> Result<Self, InvalidTopic> {
        match ReplyTopic::parse(topic) {
            Some(Ok(reply)) => Ok(Self::Reply(reply)),
            Some(Err(error)) => Err(InvalidTopic { kind: MessageKind::Reply, error }),
            None => topic.parse().map(Self::Subject).map_err(|invalid| InvalidTopic {
                kind: MessageKind::Telemetry,
                error: Rejected::Subject(invalid).kind(),
            }),
        }
    }
}

/// The topics of a session, parsed.
pub(crate) struct Topics {
    /// The subject of the last telemetry: devices repeat themselves.
    last: Option<Subject>,
    /// What each alias stands for. A topic that stands for nothing sets its alias too, so it is remembered as refused.
    aliases: Vec<(NonZeroU16, Result<Target, InvalidTopic>)>,
    limit: u16,
}

impl Topics {
    /// Makes the topics of a session that may set `limit` aliases.
    pub(crate) fn new(limit: u16) -> Self {
        Self { last: None, aliases: Vec::new(), limit }
    }

    /// Returns what a topic or its alias stands for (MQTT 5, section 3.3.2.3.4).
    pub(crate) fn target(
        &mut self,
        topic: &ByteString,
        alias: Option<NonZeroU16>,
    ) -> ControlFlow<Goodbye, Result<Target, InvalidTopic>> {
        if alias.is_some_and(|alias| alias.get() > self.limit) {
            return ControlFlow::Break(Goodbye::TopicAliasInvalid);
        }
        if topic.is_empty()
            && let Some(alias) = alias
        {
            return match self.aliases.iter().find(|(known, _)| *known == alias) {
                Some((_, target)) => ControlFlow::Continue(target.clone()),
                None => ControlFlow::Break(Goodbye::TopicAliasInvalid),
            };
        }
        let target = match &self.last {
            Some(last) if last.as_str() == topic.as_str() => Ok(Target::Subject(last.clone())),
            _ => Target::parse(topic.as_str()).inspect(|target| match target {
                Target::Subject(subject) => self.last = Some(subject.clone()),
                Target::Reply(_) => {}
            }),
        };
        if let Some(alias) = alias {
            self.aliases.retain(|(known, _)| *known != alias);
            self.aliases.push((alias, target.clone()));
        }
        ControlFlow::Continue(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(number: u16) -> Option<NonZeroU16> {
        NonZeroU16::new(number)
    }

    #[test]
    fn an_alias_stands_for_the_topic_that_set_it_last() {
        let mut topics = Topics::new(2);
        let mut target = |topic: &'static str, alias| match topics.target(&topic.into(), alias) {
            ControlFlow::Continue(Ok(Target::Subject(subject))) => Ok(subject.as_str().to_owned()),
            ControlFlow::Continue(Ok(Target::Reply(_))) => Ok("a reply".to_owned()),
            ControlFlow::Continue(Err(invalid)) => Ok(format!("invalid {:?}", invalid.kind)),
            ControlFlow::Break(goodbye) => Err(goodbye),
        };
        assert_eq!(target("", alias(1)), Err(Goodbye::TopicAliasInvalid));
        assert_eq!(target("a", alias(1)), Ok("a".into()));
        assert_eq!(target("b", None), Ok("b".into()));
        assert_eq!(target("", alias(1)), Ok("a".into()));
        assert_eq!(target("c", alias(1)), Ok("c".into()));
        assert_eq!(target("", alias(1)), Ok("c".into()));
        assert_eq!(target("d", alias(3)), Err(Goodbye::TopicAliasInvalid));
        assert_eq!(target("", None), Ok("invalid Telemetry".into()));
        assert_eq!(target("", alias(2)), Err(Goodbye::TopicAliasInvalid));
        // A topic that is refused sets its alias all the same.
        for (refused, answer) in
            [("#", "invalid Telemetry"), ("cmd/x", "invalid Telemetry"), ("reply", "invalid Reply")]
        {
            assert_eq!(target(refused, alias(1)), Ok(answer.into()), "{refused}");
            assert_eq!(target("", alias(1)), Ok(answer.into()), "{refused}");
        }
        assert_eq!(target("reply/1", alias(1)), Ok("a reply".into()));
        assert_eq!(target("", alias(1)), Ok("a reply".into()));
        assert_eq!(target("c", alias(1)), Ok("c".into()));
        assert_eq!(target("", alias(1)), Ok("c".into()));
    }
}

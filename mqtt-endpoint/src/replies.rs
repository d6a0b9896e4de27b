//! From a PUBLISH to a reply to a command.

use common::error::ErrorKind;
use common::id::EventId;
use common::ingest::Rejected;
use common::outcome::Reply;
use common::replies::read_status;

use crate::packet::Publish;

/// The first level of the topics of replies.
const REPLY: &str = "reply";

/// Returns the topic to which a device replies to a command, without a status.
pub(crate) fn response_topic(command: &EventId) -> String {
    format!("{REPLY}/{command}")
}

/// A topic of replies: `reply/{id}` or `reply/{id}/{status}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplyTopic {
    command: EventId,
    status: Option<u16>,
}

impl ReplyTopic {
    /// Parses a topic. `None`: it is not one of replies; a topic of replies that has another form is invalid.
    pub(crate) fn parse(topic: &str) -> Option<Result<Self, ErrorKind>> {
        let mut levels = topic.split('/');
        if levels.next() != Some(REPLY) {
            return None;
        }
        let (id, status, more) = (levels.next(), levels.next(), levels.next());
        let command = id.and_then(|id| id.parse().ok());
        let status = status.map(read_status).transpose();
        Some(match (command, status, more) {
            (Some(command), Ok(status), None) => Ok(Self { command, status }),
            (_, Err(rejected), _) => Err(rejected.kind()),
            (None, _, _) | (_, _, Some(_)) => Err(ErrorKind::Invalid),
        })
    }

    /// Makes the reply of a PUBLISH to this topic, whose status counts before that of the user property.
    ///
    /// Correlation data need not be there, but none that is of another command may be.
    pub(crate) fn reply(self, publish: Publish) -> Result<(EventId, Reply), ErrorKind> {
        let Publish { content_type, correlation, status, payload, .. } = publish;
        if correlation.is_some_and(|data| data[..] != *self.command.as_str().as_bytes()) {
            return Err(ErrorKind::NotFound);
        }
        let named = || status.as_deref().map(read_status).transpose();
        let status = match self.status {
            Some(status) => Some(status),
            None => named().map_err(|rejected: Rejected| rejected.kind())?,
        };
        Ok((self.command, Reply::received(status, content_type, payload)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_replies_names_the_command_and_may_name_the_status() {
        let parse = |topic| {
            ReplyTopic::parse(topic).map(|parsed| parsed.map(|it| (it.command.to_string(), it.status)))
        };
        assert_eq!(parse("reply/0193-a"), Some(Ok(("0193-a".to_owned(), None))));
        assert_eq!(parse("reply/a/404"), Some(Ok(("a".to_owned(), Some(404)))));
        for other in ["", "replying/a", "a/reply", "/reply/a", "Reply/a"] {
            assert_eq!(parse(other), None, "{other}");
        }
        for bad in [
            "reply",
            "reply/",
            "reply//200",
            "reply/a/",
            "reply/a/99",
            "reply/a/600",
            "reply/a/+20",
            "reply/a/200/x",
            "reply/#",
        ] {
            assert_eq!(parse(bad), Some(Err(ErrorKind::Invalid)), "{bad}");
        }
        assert_eq!(parse(&response_topic(&"a".parse().unwrap())), parse("reply/a"));
    }
}

//! A client of a stream.

use common::testing::PATIENCE;
use reqwest::Response;
use serde_json::Value;

/// A block of the stream: a message, or a position alone, or a comment.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) data: Option<String>,
    pub(super) comment: Option<String>,
}

impl Block {
    fn parse(text: &str) -> Self {
        let mut block = Self::default();
        for line in text.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => block.id = Some(value.to_owned()),
                "data" => match &mut block.data {
                    Some(data) => *data = format!("{data}\n{value}"),
                    None => block.data = Some(value.to_owned()),
                },
                "" => block.comment = Some(value.to_owned()),
                other => panic!("unexpected field {other:?}"),
            }
        }
        block
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_ref().unwrap()).unwrap()
    }
}

/// Reads a stream block by block, and notes the last position as a browser does.
#[derive(Debug)]
pub(super) struct EventReader {
    response: Response,
    buffer: String,
    pub(super) position: Option<String>,
}

impl EventReader {
    pub(super) fn new(response: Response) -> Self {
        Self { response, buffer: String::new(), position: None }
    }

    /// Waits for the next block. Returns `None` at the orderly end of the stream.
    pub(super) async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = Block::parse(block);
                self.buffer = rest.to_owned();
                if block.id.is_some() {
                    self.position.clone_from(&block.id);
                }
                return Some(block);
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// Waits for the next block of a kind. Signs of life, which come meanwhile, are no reason to wait longer.
    async fn find(&mut self, what: &str, is_it: impl Fn(&Block) -> bool) -> Block {
        let found = async {
            loop {
                let block = self.block().await.expect("the stream goes on");
                if is_it(&block) {
                    return block;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect(what)
    }

    /// Waits for the next message.
    pub(super) async fn next(&mut self) -> Block {
        self.find("a message comes", |block| block.data.is_some()).await
    }

    /// Waits for a position that comes without a message.
    pub(super) async fn next_position(&mut self) -> String {
        let alone = |block: &Block| block.id.is_some() && block.data.is_none();
        self.find("a position comes", alone).await.id.unwrap()
    }

    /// Reads the subjects of messages up to the one whose subject is `end`.
    pub(super) async fn subjects_until(&mut self, end: &str) -> Vec<String> {
        let mut subjects = Vec::new();
        loop {
            let json = self.next().await.json();
            match json["subject"].as_str().unwrap() {
                subject if subject == end => return subjects,
                subject => subjects.push(subject.to_owned()),
            }
        }
    }

    /// Reads to the orderly end of the stream, and returns the last comment.
    pub(super) async fn end(mut self) -> String {
        let ended = async {
            let mut comment = String::new();
            while let Some(block) = self.block().await {
                assert!(block.data.is_none(), "{block:?}");
                comment = block.comment.unwrap_or(comment);
            }
            comment
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("the stream ends")
    }
}

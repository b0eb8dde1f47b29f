//! Presets as they are written: their blocks, each with the comment above it.

use toml::{Table, Value};

/// A preset.
pub struct Preset {
    /// The comment at its beginning.
    pub about: String,
    pub base: String,
    pub rules: Vec<Block>,
    pub commands: Vec<Block>,
}

/// A `[[rule]]` or a `[[command]]`.
pub struct Block {
    pub about: String,
    pub keys: Table,
}

impl Preset {
    pub fn read(text: &str) -> Preset {
        let (mut about, mut blocks, mut comment) = (None, Vec::new(), String::new());
        let mut head = String::new();
        for part in text.split("\n\n") {
            let (said, keys): (Vec<&str>, Vec<&str>) = part.lines().partition(|line| line.starts_with('#'));
            let said: Vec<&str> = said.iter().map(|line| line.trim_start_matches(['#', ' '])).collect();
            comment += &said.join(" ");
            match keys.first().copied() {
                Some(kind @ ("[[rule]]" | "[[command]]")) => {
                    let keys = toml::from_str(&keys[1..].join("\n")).unwrap();
                    blocks.push((kind, Block { about: std::mem::take(&mut comment), keys }));
                }
                Some(_) => {
                    // What is said of the head's keys is for whoever reads the preset.
                    let first: Vec<&str> = part.lines().take_while(|line| line.starts_with('#')).collect();
                    let first = first.iter().filter(|line| !line.contains("by which `fieldlog probe`"));
                    let first: Vec<&str> = first.map(|line| line.trim_start_matches(['#', ' '])).collect();
                    about.get_or_insert(first.join(" "));
                    comment.clear();
                    head += &format!("{part}\n");
                }
                None => comment.push(' '),
            }
        }
        let head: Table = toml::from_str(&head).unwrap();
        let base = head.get("base").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (rules, commands): (Vec<_>, Vec<_>) =
            blocks.into_iter().partition(|(kind, _)| *kind == "[[rule]]");
        let plain = |blocks: Vec<(&str, Block)>| blocks.into_iter().map(|(_, block)| block).collect();
        Preset { about: about.unwrap(), base, rules: plain(rules), commands: plain(commands) }
    }

    /// A topic with the base in its place.
    pub fn topic(&self, topic: &str) -> String {
        match &*self.base {
            "" => topic.replace("{base}/", ""),
            base => topic.replace("{base}", base),
        }
    }
}

impl Block {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    pub fn list(&self, key: &str) -> Vec<&str> {
        let list = self.keys.get(key).and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// A number, as it is written.
    pub fn number(&self, key: &str) -> Option<String> {
        self.keys.get(key).map(|value| match value {
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            other => panic!("{key} is {other:?}"),
        })
    }
}

#[test]
fn comments_stay_with_their_blocks() {
    let preset = Preset::read(
        "# One\n# two.\nbase = \"b\"\n\n# Rule.\n[[rule]]\ntopic = \"{base}/x\"\n\n# All.\n\n# C.\n[[command]]\nattribute = \"a\"\n",
    );
    assert_eq!((&*preset.about, &*preset.topic("{base}/x")), ("One two.", "b/x"));
    assert_eq!((&*preset.rules[0].about, preset.rules[0].text("topic")), ("Rule.", Some("{base}/x")));
    assert_eq!(preset.commands[0].about, "All. C.");
}

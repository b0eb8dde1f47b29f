//! The values of one payload, in buffers that are reused for the next.

use fieldlog_projections::{Time, ValueRef};

use super::bounded::Room;
use super::twice::Names;
use super::{ARENA_KEPT_BYTES, COUNTER_BYTES_MAX, Excess, JsonRule, LEAVES_MAX, NAMES_BYTES_MAX, time};

/// The values of one payload. The buffers are reused, so decoding allocates nothing.
#[derive(Debug, Default)]
pub struct Values {
    /// Attribute paths and texts, one after the other.
    arena: String,
    items: Vec<(Range, Item)>,
    /// Lists whose elements are values by themselves, and how many elements they have.
    lists: Vec<(Range, usize)>,
    pub(super) path: String,
    pub(super) time: Option<Item>,
    /// The number that messages are ordered by.
    pub(super) order: Option<i64>,
    /// `time` is among the attributes; if it can be read, it is not one of them.
    time_here: bool,
    time_unread: bool,
    left_out: usize,
    /// Bytes of the paths in the arena.
    path_bytes: usize,
    /// The names of the objects around the current place.
    pub(super) names: Names,
    /// A name that an object had twice, with two values.
    pub(super) twice: Option<String>,
    /// What the arena may hold of this payload, in bytes.
    arena_max: usize,
    pub(super) text_bytes_max: usize,
    name_bytes_max: usize,
    too_long: Option<String>,
    pub(super) excess: Option<Excess>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Range(u32, u32);

#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(Range),
    Json(Range),
}

impl Values {
    /// With the maximum lengths of texts and arrays, and of attribute paths, in bytes.
    pub fn new(text_bytes_max: usize, name_bytes_max: usize) -> Values {
        Values { text_bytes_max, name_bytes_max, ..Values::default() }
    }

    pub(super) fn clear(&mut self) {
        if self.capacity() > ARENA_KEPT_BYTES {
            (self.arena, self.items, self.lists) = (String::new(), Vec::new(), Vec::new());
            self.names.release();
        }
        self.arena.clear();
        self.items.clear();
        self.lists.clear();
        self.path.clear();
        (self.time, self.order) = (None, None);
        (self.time_here, self.time_unread, self.left_out) = (false, false, 0);
        self.path_bytes = 0;
        self.names.clear();
        self.twice = None;
        self.too_long = None;
        self.excess = None;
    }

    /// Bytes allocated for values and their paths.
    pub(super) fn capacity(&self) -> usize {
        let lists = self.lists.capacity() * size_of::<(Range, usize)>();
        let items = self.items.capacity() * size_of::<(Range, Item)>();
        self.arena.capacity() + items + lists + self.names.capacity()
    }

    /// Prepares for a payload of this many bytes. Its texts cannot be longer than it, except that numbers in arrays may
    /// be written longer than received; paths have a separate bound.
    pub(super) fn begin(&mut self, payload_bytes: usize) {
        self.clear();
        self.arena_max = payload_bytes.saturating_add(NAMES_BYTES_MAX).min(u32::MAX as usize);
    }

    fn text(&self, range: Range) -> &str {
        &self.arena[range.0 as usize..range.1 as usize]
    }

    pub(super) fn value(&self, item: Item) -> ValueRef<'_> {
        match item {
            Item::Null => ValueRef::Null,
            Item::Bool(v) => ValueRef::Bool(v),
            Item::Int(v) => ValueRef::Int(v),
            Item::Uint(v) => ValueRef::Uint(v),
            Item::Float(v) => ValueRef::Float(v),
            Item::Text(range) => ValueRef::Text(self.text(range)),
            Item::Json(range) => ValueRef::Json(self.text(range)),
        }
    }

    /// Attribute paths and values, in the order of the payload.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, ValueRef<'_>)> {
        self.items.iter().map(|(path, item)| (self.text(*path), self.value(*item)))
    }

    /// Paths of the lists whose elements are values by themselves, named by their index; and how many elements they have.
    pub fn lists(&self) -> impl ExactSizeIterator<Item = (&str, usize)> {
        self.lists.iter().map(|(path, elements)| (self.text(*path), *elements))
    }

    /// The first attribute whose value was left out because it is longer than allowed.
    pub fn too_long(&self) -> Option<&str> {
        self.too_long.as_deref()
    }

    /// A name that an object had twice, with two values; the last one was taken.
    pub fn twice(&self) -> Option<&str> {
        self.twice.as_deref()
    }

    /// The number that tells which of two messages is the newer one, if the rule asks for it and the payload has it.
    pub fn order(&self) -> Option<i64> {
        self.order
    }

    /// Whether there is an unreadable time. If it is among the attributes, it is one of them.
    pub fn time_unread(&self) -> bool {
        self.time_unread
    }

    /// Number of list elements that were skipped on the way to the rule's root.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn pass_over(&mut self, elements: usize) {
        self.left_out += elements;
    }

    /// The payload's own time; an unreadable one stays an attribute.
    pub(super) fn take_time(&mut self, rule: &JsonRule) -> Result<Option<Time>, Excess> {
        let Some(item) = self.time.filter(|item| !matches!(item, Item::Null)) else { return Ok(None) };
        let time = rule.time_format.and_then(|format| time::read(self.value(item), format, rule.zone));
        if time.is_none() {
            self.time_unread = true;
            if self.time_here {
                self.path.clone_from(&rule.time_path);
                self.keep(item)?;
            }
        }
        Ok(time)
    }

    /// Stores text. Anything beyond `arena_max` is detected before it is copied, so offsets fit 32 bits.
    #[inline]
    pub(super) fn push_str(&mut self, text: &str) -> Result<Range, Excess> {
        let start = self.arena.len();
        if text.len() > self.arena_max.saturating_sub(start) {
            return Err(Excess::Values { max: self.arena_max });
        }
        self.arena.push_str(text);
        Ok(Range(start as u32, self.arena.len() as u32))
    }

    /// Enters an object's key.
    #[inline]
    pub(super) fn enter(&mut self, key: &str) -> Result<(), Excess> {
        if key.is_empty() {
            return Err(Excess::NoName);
        }
        let dot = usize::from(!self.path.is_empty());
        let bytes = self.path.len() + dot + key.len();
        if bytes > self.name_bytes_max {
            return Err(Excess::name(&self.path, key, bytes, self.name_bytes_max));
        }
        if dot == 1 {
            self.path.push('.');
        }
        self.path.push_str(key);
        if key.contains('.') {
            self.names.note_point();
        }
        Ok(())
    }

    /// Stores a leaf under the current path.
    #[inline]
    pub(super) fn leaf(&mut self, rule: &JsonRule, item: Item) -> Result<(), Excess> {
        if !rule.time_path.is_empty() && self.path == rule.time_path {
            (self.time, self.time_here) = (Some(item), true);
            return Ok(());
        }
        self.keep(item)
    }

    #[inline]
    fn keep(&mut self, item: Item) -> Result<(), Excess> {
        let path = self.keep_path()?;
        self.items.push((path, item));
        Ok(())
    }

    /// Keeps how many elements the list at the current path has.
    pub(super) fn keep_list(&mut self, elements: usize) -> Result<(), Excess> {
        let path = self.keep_path()?;
        self.lists.push((path, elements));
        Ok(())
    }

    #[inline]
    fn keep_path(&mut self) -> Result<Range, Excess> {
        self.path_bytes += self.path.len();
        if self.items.len() + self.lists.len() >= LEAVES_MAX {
            return Err(Excess::Leaves);
        }
        if self.path_bytes > NAMES_BYTES_MAX {
            return Err(Excess::Names);
        }
        let start = self.arena.len();
        if self.path.len() > self.arena_max.saturating_sub(start) {
            return Err(Excess::Values { max: self.arena_max });
        }
        self.arena.push_str(&self.path);
        Ok(Range(start as u32, self.arena.len() as u32))
    }

    pub(super) fn leaf_text(
        &mut self,
        rule: &JsonRule,
        text: &str,
        make: fn(Range) -> Item,
    ) -> Result<(), Excess> {
        if text.len() > self.text_bytes_max {
            self.leave_out();
            return Ok(());
        }
        let range = self.push_str(text)?;
        self.leaf(rule, make(range))
    }

    pub(super) fn leave_out(&mut self) {
        self.too_long.get_or_insert_with(|| self.path.clone());
    }

    /// Whether a counter is to be looked for that does not stand among the attributes.
    pub(super) fn lacks_counter(&self, rule: &JsonRule) -> bool {
        !rule.counter.is_empty() && !self.iter().any(|(path, _)| rule.is_counter(path))
    }

    /// Adds the counter of the actions under the pointer to it; what can be no counter is none.
    pub(super) fn add_counter<E: serde::de::Error>(
        &mut self,
        rule: &JsonRule,
        counter: &serde_json::Value,
    ) -> Result<(), E> {
        let item = match counter {
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(number), ..) => Item::Int(number),
                (_, Some(number), _) => Item::Uint(number),
                (.., Some(number)) => Item::Float(number),
                _ => return Ok(()),
            },
            serde_json::Value::String(text) if text.len() <= COUNTER_BYTES_MAX.min(self.text_bytes_max) => {
                let text = self.push_str(text).map(Item::Text);
                match text {
                    Ok(text) => text,
                    Err(excess) => return self.stop(Err(excess)),
                }
            }
            _ => return Ok(()),
        };
        self.path.clone_from(&rule.counter);
        let kept = self.keep(item);
        self.stop(kept)
    }

    /// Takes over what a part of the document had twice.
    pub(super) fn note_twice(&mut self, part: &mut Room) {
        if let Some(name) = part.take_twice() {
            self.twice.get_or_insert(name);
        }
    }

    /// Refuses two values with the same path, such as those of `{"a.b":1,"a":{"b":2}}`: neither is the other's change.
    pub(super) fn check_paths(&self) -> Result<(), Excess> {
        if !self.names.has_points() {
            return Ok(());
        }
        let mut paths: Vec<&str> = self.iter().map(|(path, _)| path).collect();
        paths.sort_unstable();
        match paths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Excess::Same { path: pair[0].to_owned() }),
            None => Ok(()),
        }
    }

    /// Stores the exceeded bound, as the reason for the quarantine, and stops the parser.
    pub(super) fn stop<E: serde::de::Error>(&mut self, result: Result<(), Excess>) -> Result<(), E> {
        result.map_err(|excess| {
            let error = E::custom(&excess);
            self.excess = Some(excess);
            error
        })
    }
}

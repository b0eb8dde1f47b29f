//! Namespaces by number.

use std::collections::HashMap;
use std::sync::Arc;

/// A namespace by number; numbers are valid for one observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Namespace(u32);

/// The namespaces of rules and devices.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, Namespace>,
    /// Whether the operator was told of a clash in it.
    told: Vec<bool>,
}

impl Namespaces {
    pub(super) fn number(&mut self, name: &str) -> Namespace {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = Namespace(self.names.len() as u32);
        let name: Arc<str> = name.into();
        self.numbers.insert(name.clone(), number);
        self.names.push(name);
        self.told.push(false);
        number
    }

    pub(super) fn name(&self, number: Namespace) -> Arc<str> {
        self.names[number.0 as usize].clone()
    }

    /// True the first time.
    pub(super) fn tell(&mut self, number: Namespace) -> bool {
        !std::mem::replace(&mut self.told[number.0 as usize], true)
    }
}

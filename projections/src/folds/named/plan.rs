//! Which declarations an attribute has a part in. Derived from them and the names of attributes, so it is no state.

use std::sync::Arc;

use crate::AttrId;
use crate::declared::Declared;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By derived attribute: the aggregates that include it.
    including: Vec<Vec<u16>>,
    /// By number of the attribute, once it was met.
    uses: Vec<Option<Uses>>,
}

/// The part of one recorded attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Uses {
    /// The aggregates that include it.
    pub(super) aggregates: Vec<u16>,
    /// The derived attributes that are computed from it, and its place among what they are computed from. Without those
    /// that no aggregate includes.
    pub(super) inputs: Vec<(u16, u16)>,
}

/// Not a part of the state.
impl PartialEq for Plan {
    fn eq(&self, _: &Plan) -> bool {
        true
    }
}

impl Plan {
    pub(super) fn new(declared: &Declared) -> Plan {
        let including = declared.derived.iter().map(|derived| including(declared, &derived.name)).collect();
        Plan { including, uses: Vec::new() }
    }

    /// The aggregates that include a derived attribute.
    pub(super) fn including(&self, derived: u16) -> &[u16] {
        &self.including[usize::from(derived)]
    }

    /// The part of an attribute; `None` if it has none.
    #[inline]
    pub(super) fn uses(&mut self, declared: &Declared, attr: AttrId, names: &[Arc<str>]) -> Option<&Uses> {
        let at = attr.0 as usize;
        if self.uses.get(at).is_none_or(Option::is_none) {
            self.learn(declared, at, names.get(at)?);
        }
        self.uses[at].as_ref().filter(|uses| **uses != Uses::default())
    }

    #[cold]
    fn learn(&mut self, declared: &Declared, at: usize, name: &str) {
        let mut uses = Uses { aggregates: including(declared, name), inputs: Vec::new() };
        for (at, derived) in (0..).zip(&declared.derived) {
            if !self.including(at).is_empty() {
                let places = derived.of.iter().zip(0..).filter(|(of, _)| *of == name);
                uses.inputs.extend(places.map(|(_, place)| (at, place)));
            }
        }
        if at >= self.uses.len() {
            self.uses.resize(at + 1, None);
        }
        self.uses[at] = Some(uses);
    }
}

fn including(declared: &Declared, name: &str) -> Vec<u16> {
    declared.aggregates.iter().zip(0..).filter(|(one, _)| one.includes(name)).map(|(_, at)| at).collect()
}

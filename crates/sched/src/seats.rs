//! The seats of one task in little memory: most of a million tasks have one group and one seat, and neither
//! then needs an allocation of its own.

use crate::task::Held;
use std::ops::{Deref, DerefMut};

/// The seats that a task holds, sorted by slot; it reads as a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seats {
    #[default]
    None,
    One(Held),
    Many(Vec<Held>),
}

impl Seats {
    pub(crate) fn reserve_exact(&mut self, more: usize) {
        let count = self.len() + more;
        if count > 1 {
            self.many().reserve_exact(more);
        }
    }

    pub(crate) fn insert(&mut self, at: usize, held: Held) {
        match self {
            Seats::None => *self = Seats::One(held),
            Seats::One(_) | Seats::Many(_) => self.many().insert(at, held),
        }
    }

    pub(crate) fn remove(&mut self, at: usize) -> Held {
        match std::mem::take(self) {
            Seats::One(held) if at == 0 => held,
            seats => {
                *self = seats;
                self.many().remove(at)
            }
        }
    }

    fn many(&mut self) -> &mut Vec<Held> {
        let vec = match std::mem::take(self) {
            Seats::None => Vec::new(),
            Seats::One(held) => vec![held],
            Seats::Many(vec) => vec,
        };
        *self = Seats::Many(vec);
        match self {
            Seats::Many(vec) => vec,
            Seats::None | Seats::One(_) => unreachable!("it was just made many"),
        }
    }
}

impl Deref for Seats {
    type Target = [Held];

    fn deref(&self) -> &[Held] {
        match self {
            Seats::None => &[],
            Seats::One(held) => std::slice::from_ref(held),
            Seats::Many(vec) => vec,
        }
    }
}

impl DerefMut for Seats {
    fn deref_mut(&mut self) -> &mut [Held] {
        match self {
            Seats::None => &mut [],
            Seats::One(held) => std::slice::from_mut(held),
            Seats::Many(vec) => vec,
        }
    }
}

impl<'a> IntoIterator for &'a Seats {
    type Item = &'a Held;
    type IntoIter = std::slice::Iter<'a, Held>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Seats {
    type Item = &'a mut Held;
    type IntoIter = std::slice::IterMut<'a, Held>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// Seats ever given, by group: an elastic task grows by the next ones only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The task has one group.
    One(u32),
    Many(Box<[u32]>),
}

impl Given {
    /// Nothing was given yet.
    pub(crate) fn none(groups: usize) -> Self {
        match groups {
            0 | 1 => Given::One(0),
            _ => Given::Many(vec![0; groups].into_boxed_slice()),
        }
    }
}

impl Deref for Given {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Given::One(given) => std::slice::from_ref(given),
            Given::Many(given) => given,
        }
    }
}

impl DerefMut for Given {
    fn deref_mut(&mut self) -> &mut [u32] {
        match self {
            Given::One(given) => std::slice::from_mut(given),
            Given::Many(given) => given,
        }
    }
}

//! Numbers that were skipped, so that frames that come late are known from frames that come again.

/// The most gaps that are remembered; of more, the oldest is given up: its frames count as kept.
const GAPS_MAX: usize = 64;

/// Which numbers of a replica are kept: all up to `last` but those in the gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    last: u64,
    /// First and last number of each gap, ascending.
    gaps: Vec<(u64, u64)>,
}

impl Kept {
    /// Everything up to this number, as far as anybody needs to know.
    pub(crate) fn up_to(last: u64) -> Kept {
        Kept {
            last,
            gaps: Vec::new(),
        }
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// How many numbers are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.gaps.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Takes a number in; false where it is kept already.
    pub(crate) fn add(&mut self, seq: u64) -> bool {
        if seq > self.last {
            if seq > self.last + 1 {
                self.gaps.push((self.last + 1, seq - 1));
                if self.gaps.len() > GAPS_MAX {
                    self.gaps.remove(0);
                }
            }
            self.last = seq;
            return true;
        }
        let Some(at) = self
            .gaps
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&seq))
        else {
            return false;
        };
        let (first, last) = self.gaps.remove(at);
        let parts = [(first, seq - 1), (seq + 1, last)];
        let parts = parts.into_iter().filter(|(first, last)| first <= last);
        for (n, part) in parts.enumerate() {
            self.gaps.insert(at + n, part);
        }
        if self.gaps.len() > GAPS_MAX {
            self.gaps.remove(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_numbers_are_taken_once() {
        let mut kept = Kept::default();
        let added: Vec<u64> = [1, 2, 5, 4, 4, 9, 3, 3, 7, 2, 8, 6]
            .into_iter()
            .filter(|seq| kept.add(*seq))
            .collect();
        assert_eq!(added, [1, 2, 5, 4, 9, 3, 7, 8, 6]);
        assert_eq!((kept.last(), kept.missing()), (9, 0));
        kept.add(20);
        assert_eq!(kept.missing(), 10);
    }

    #[test]
    fn the_oldest_gap_is_given_up() {
        let mut kept = Kept::default();
        for n in 0..=GAPS_MAX as u64 {
            kept.add(2 + 2 * n);
        }
        assert!(!kept.add(1), "its gap is forgotten");
        assert!(kept.add(3));
    }
}

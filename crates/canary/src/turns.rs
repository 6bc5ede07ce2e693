//! Who answers next, by shares.

/// Turns of one round, at most.
const TURNS_MAX: u32 = 1_000;

/// One round: each share's place as often as it says, spread evenly, times `rounds`. Empty where no share is above 0.
///
/// Smooth weighted round robin, as nginx has it: each time the one that is furthest behind its share.
pub fn turns(shares: &[u32], rounds: u32) -> Vec<usize> {
    let total: u32 = shares.iter().sum();
    if total == 0 {
        return Vec::new();
    }
    let divisor = shares.iter().copied().fold(0, gcd).max(1);
    let n = (total / divisor).saturating_mul(rounds).min(TURNS_MAX);
    let mut behind = vec![0_i64; shares.len()];
    let mut turns = Vec::with_capacity(n as usize);
    for _ in 0..n {
        for (behind, share) in behind.iter_mut().zip(shares) {
            *behind += i64::from(*share);
        }
        let wanted = (0..shares.len()).filter(|at| shares[*at] > 0);
        let Some(at) = wanted.max_by_key(|at| (behind[*at], usize::MAX - at)) else {
            break;
        };
        behind[at] -= i64::from(total);
        turns.push(at);
    }
    turns
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_never_in_a_row_where_it_is_small() {
        assert_eq!(turns(&[80, 0, 20], 1), [0, 0, 2, 0, 0]);
        assert_eq!(turns(&[1, 1], 2), [0, 1, 0, 1]);
        assert_eq!(turns(&[0, 0], 1), Vec::<usize>::new());
        let many = turns(&[95, 5], 1);
        assert_eq!(many.len(), 20);
        let few = |at: usize| many.iter().filter(|turn| **turn == at).count();
        assert_eq!((few(0), few(1)), (19, 1));
        assert!(turns(&[999_983, 1], 1).len() <= TURNS_MAX as usize);
    }
}

//! Looks at many things again and again, each in a task of its own, so that one that takes long holds up no other.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Each `period`, lists what is open and looks at each of it; what is still being looked at is left alone.
/// Ends with `stop`, in the middle of looks; a look that panics ends it, too.
pub(super) async fn each<K, F, L>(
    period: Duration,
    list: impl Fn() -> F,
    look: impl Fn(K) -> L,
    stop: CancellationToken,
) where
    K: Copy + Eq + Hash + Send + 'static,
    F: Future<Output = Vec<K>>,
    L: Future<Output = ()> + Send + 'static,
{
    let mut looks = JoinSet::new();
    let mut looked_at = HashSet::new();
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let open = list().await;
                for key in open.into_iter().filter(|key| looked_at.insert(*key)) {
                    let look = look(key);
                    looks.spawn(async move {
                        look.await;
                        key
                    });
                }
            }
            Some(ended) = looks.join_next() => match ended {
                Ok(key) => {
                    looked_at.remove(&key);
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_holds_up_no_other_and_is_not_begun_twice() {
        let counts: Arc<[AtomicU32; 2]> = Arc::default();
        let stop = CancellationToken::new();
        let seen = Arc::clone(&counts);
        let look = move |key: usize| {
            let seen = Arc::clone(&seen);
            async move {
                seen[key].fetch_add(1, SeqCst);
                if key == 0 {
                    std::future::pending::<()>().await;
                }
            }
        };
        let looks = each(
            Duration::from_secs(1),
            || async { vec![0, 1] },
            look,
            stop.clone(),
        );
        let ended = tokio::time::timeout(Duration::from_millis(4_500), looks).await;
        assert!(ended.is_err(), "it goes on until it is told to stop");
        assert_eq!((counts[0].load(SeqCst), counts[1].load(SeqCst)), (1, 5));

        stop.cancel();
        each(
            Duration::from_secs(1),
            || async { vec![0] },
            |_| async {},
            stop,
        )
        .await;
    }
}

//! A runtime of its own for a client that works by itself: whatever it has begun ends with it, what it breaks is caught, and what it
//! does without a pause holds up no other sink.

use tokio::runtime::{Builder, Runtime};

use super::Failure;

/// See above. Dropping it ends everything at once.
pub(super) struct Aside(Option<Runtime>);

impl Aside {
    pub(super) fn new() -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("portcullis-sink").enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(Failure::again)
    }

    /// Does something there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(runtime) = &self.0 else { return Err(Failure::again("it has ended")) };
        // A panic is the client's, over something that the receiver said.
        runtime.spawn(work).await.unwrap_or_else(|_| Err(Failure::again("what it said could not be understood")))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_breaks_there_is_a_failure_and_what_goes_on_ends_with_it() {
        let aside = Aside::new().unwrap();
        let broken = aside.run::<()>(async { std::panic::resume_unwind(Box::new("odd")) }).await;
        assert!(matches!(broken, Err(Failure::Again { .. })), "{broken:?}");
        let (alive, is_alive) = tokio::sync::oneshot::channel::<()>();
        let begun = async move {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                drop(alive);
            });
            Ok(())
        };
        aside.run(begun).await.unwrap();
        drop(aside);
        // The task is gone, and its end of the channel with it.
        is_alive.await.unwrap_err();
    }
}

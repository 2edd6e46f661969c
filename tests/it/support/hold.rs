//! A function whose calls last as long as a test wants.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{Upstream, soon, upstream::text};

/// The function `hold`: tells that it runs, and answers when it is let go.
pub(crate) struct Hold {
    pub(crate) upstream: Upstream,
    pub(crate) began: mpsc::UnboundedReceiver<String>,
    /// A permit lets one call go.
    pub(crate) go: Arc<Semaphore>,
}

impl Hold {
    pub(crate) async fn start() -> Self {
        let (tell, began) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let upstream = Upstream::start().await.function("hold", move |request| {
            let (tell, gate) = (tell.clone(), Arc::clone(&gate));
            async move {
                tell.send(request.uri().to_string()).expect("the test listens");
                gate.acquire().await.expect("open").forget();
                text(200, "done")
            }
        });
        Self { upstream, began, go }
    }

    /// The target of the call that begins next.
    pub(crate) async fn next(&mut self) -> String {
        soon("a call", self.began.recv()).await.expect("the function is there")
    }
}

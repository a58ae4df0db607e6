//! Where a topic's subscription begins when there is no disk: Momento knows how far its routes were.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::backoff::Backoff;
use super::cursor::{Cursor, Place};
use super::journal::Settled;
use super::marks::Marks;
use super::subscribe::Subscriber;
use crate::momento::Error;

/// Between two attempts at the positions in Momento, without which a relay that has no disk does not know where to begin.
const RETRY: Backoff =
    Backoff { least: Duration::from_millis(200), base: Duration::from_secs(1), most: Duration::from_secs(30) };

/// Subscribes; without a disk from where the routes were, which Momento knows.
pub(crate) async fn begin(mut subscriber: Subscriber, marks: Arc<Mutex<Marks>>, without_disk: bool) {
    if without_disk {
        subscriber.cursor = Cursor::at(found(&subscriber, &marks).await);
    }
    drop(marks);
    subscriber.run().await;
}

/// Asks Momento for the position until there is an answer.
async fn found(subscriber: &Subscriber, marks: &Mutex<Marks>) -> Option<Place> {
    let mut failures = 0;
    loop {
        match position(subscriber, marks).await {
            Ok(position) => {
                subscriber.health.clear("position");
                return position;
            }
            Err(error) => {
                failures += 1;
                subscriber.health.set("position", format!("the position in Momento cannot be read: {error}"));
                tokio::time::sleep(RETRY.wait(failures)).await;
            }
        }
    }
}

/// The least of the topic's routes' marks.
async fn position(subscriber: &Subscriber, marks: &Mutex<Marks>) -> Result<Option<Place>, Error> {
    let momento = subscriber.accounts.clone().get().await.momento;
    let mut least = None::<Place>;
    for mark in &mut marks.lock().await.marks {
        if subscriber.routes.contains(&mark.route())
            && let Some(Settled { to: place, .. }) = mark.read(&momento).await?
        {
            let is_less = |least: &Place| (place.page, place.number) < (least.page, least.number);
            least = if least.as_ref().is_none_or(is_less) { Some(place) } else { least };
        }
    }
    Ok(least)
}

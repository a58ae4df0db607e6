//! The whole receiving side while everything fails in turn: what was accepted is processed exactly once, or is in the queue.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use momento_webhook::event::Event;
use momento_webhook::local::Faults;
use momento_webhook::signature::HEADER;
use tokio::time::{Instant, sleep};

use crate::fixture::{account, comment, comments, now, scale, signature_of};
use crate::lambda::{Deployment, Queues, batch};

/// What Momento does to the handler, one after the other.
const FAULTS: [&str; 10] = [
    "all=delay:1ms*1", // nothing, for once
    "momento=unavailable*30",
    "list-push-front=drop-answer*5",
    "set-if=drop-answer*5",
    "list-push-front=hang-answer*2",
    "get=drop*5",
    "set-if=hang*2",
    "momento=delay:150ms*20",
    "list-push-front=resource-exhausted*10",
    "all=drop*10",
];

/// How long a sender waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

async fn send_until_accepted(deployment: &Deployment, event: &Event) {
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        let body = Event { publish_timestamp: now(), ..event.clone() }.to_body();
        let signature = signature_of(std::str::from_utf8(&body).unwrap());
        let request = deployment.post(&body).header(HEADER, signature).timeout(PATIENCE);
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200 | 202) => return,
            Ok(status) => assert!(status >= 500, "{status}"), // 503, or what the emulator says while there is no handler
            Err(_) => {}
        }
        sleep(Duration::from_millis(50)).await; // as a sender backs off
    }
    panic!("never accepted");
}

/// Kills the handlers, starts them again, and switches faults, until everything has been sent.
async fn misbehave(deployment: &Deployment, faults: &Faults, variables: &[(&str, &str)]) {
    for round in 0.. {
        let handlers = ["1", "1", "8"].map(|events_at_a_time| {
            let at_a_time = ("AWS_LAMBDA_MAX_CONCURRENCY", events_at_a_time);
            deployment.start("handler", &[variables, &[at_a_time]].concat())
        });
        for step in 0..3 {
            faults.set([FAULTS[(round * 3 + step) % FAULTS.len()].parse().unwrap()]).unwrap();
            sleep(Duration::from_millis(400)).await; // the time for it to do harm
        }
        drop(handlers); // SIGKILL, whatever they are doing
    }
}

/// Records that `redrive` is given at once, and how often it runs at once: Lambda adds pollers as a queue grows.
const BATCH: usize = 5;
const REDRIVES: usize = 4;

/// Redrives, keeping what fails for the next round, as SQS would, until everything has been sent and the queue is empty.
async fn redrive(deployment: &Deployment, queues: &Queues, sent: &AtomicBool) -> usize {
    let (mut records, mut total, end) = (VecDeque::new(), 0, Instant::now() + Duration::from_secs(3_000));
    loop {
        let all = sent.load(Ordering::Acquire); // before the queue is looked at
        if records.len() < BATCH {
            let received = queues.take().await;
            total += received.len();
            records.extend(received);
        }
        if records.is_empty() && all && queues.counts().await == [0; 3] {
            return total;
        }
        let work: Vec<_> = records.drain(..records.len().min(BATCH)).collect();
        let answer = deployment.lambda.invoke("redrive", &batch(&work)).await;
        let failed = answer["batchItemFailures"].as_array().unwrap();
        let is_failed = |id: Option<&str>| failed.iter().any(|item| item["itemIdentifier"].as_str() == id);
        records.extend(work.into_iter().filter(|record| is_failed(record.message_id())));
        assert!(Instant::now() < end, "{} records are left", records.len());
        if !failed.is_empty() || total == 0 {
            sleep(Duration::from_millis(100)).await; // a lease has to end
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_every_event_has_its_effect_exactly_once() {
    let faults = Faults::default();
    let deployment = Deployment::with(faults.clone()).await;
    let queues = Queues::new(&deployment.moto).await;
    let variables = [
        ("PARK_QUEUE_URL", queues.parked.as_str()),
        ("DEAD_LETTER_QUEUE_URL", queues.dead.as_str()),
        ("CLAIM_LEASE_SECONDS", "4"), // longer than an attempt takes
        ("COMMENTS_KEPT", "1000"),
    ];
    let total = scale(600, 20_000);
    let events: Vec<_> =
        (0..total).map(|n| comment(&format!("course-{}", n % (total / 100)), &n.to_string())).collect();
    let sending = futures::stream::iter(events.iter().enumerate())
        .flat_map(|(number, event)| futures::stream::iter(std::iter::repeat_n(event, 1 + number % 3)))
        .map(|event| send_until_accepted(&deployment, event))
        .buffer_unordered(32) // most of them wait for a handler that was killed
        .collect::<Vec<()>>();
    let sent = AtomicBool::new(false);
    let sending = async {
        tokio::select! {
            _ = sending => {}
            () = misbehave(&deployment, &faults, &variables) => unreachable!(),
        }
        faults.clear();
        sent.store(true, Ordering::Release);
    };
    let _redrives = [(); REDRIVES].map(|()| deployment.start("redrive", &variables));
    let redriving = join_all((0..REDRIVES).map(|_| redrive(&deployment, &queues, &sent)));
    let ((), redriven) = tokio::join!(sending, redriving);
    let redriven: usize = redriven.into_iter().sum();
    let seen = entries(&account(&deployment.local.url), total).await;
    let missing = events.iter().filter(|event| !seen.contains_key(&event.id().to_string())).count();
    let twice = seen.values().filter(|count| **count > 1).count();
    assert_eq!((missing, twice, seen.len() as u64), (0, 0, total), "of {total}, {redriven} redriven");
    assert!(redriven > 0, "nothing was parked, the faults did no harm");
    assert_eq!(queues.dead_letters().await, Vec::<String>::new());
}

/// How often each event's id stands in the lists.
async fn entries(account: &momento::CacheClient, total: u64) -> HashMap<String, u32> {
    let mut seen = HashMap::new();
    for course in 0..total / 100 {
        for entry in comments(account, &format!("course-{course}")).await {
            *seen.entry(entry["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    seen
}

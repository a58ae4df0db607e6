//! The Lambda function on the parking queue, with course comments as its reaction.

use momento_webhook::config::{self, RedriveConfig};
use momento_webhook::reaction::{CourseComments, CourseCommentsConfig};
use momento_webhook::{logs, redrive};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init(&config::env, module_path!());
    let config = RedriveConfig::from_lookup(&config::env)?;
    let reaction = CourseComments::new(CourseCommentsConfig::from_lookup(&config::env)?);
    redrive::run(config, reaction).await
}

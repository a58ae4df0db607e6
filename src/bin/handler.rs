//! The Lambda function that we deploy: the handler, with course comments as its reaction.

use momento_webhook::config::{self, HandlerConfig};
use momento_webhook::reaction::{CourseComments, CourseCommentsConfig};
use momento_webhook::{handler, logs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init(&config::env, module_path!());
    let config = HandlerConfig::from_lookup(&config::env)?;
    let reaction = CourseComments::new(CourseCommentsConfig::from_lookup(&config::env)?);
    handler::run(config, reaction).await
}

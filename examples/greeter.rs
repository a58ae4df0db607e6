//! A second application: greets each user by name on a topic of their own. Everything that an application writes is here.
//!
//!     cargo lambda watch --example greeter

use momento_webhook::config::{self, HandlerConfig};
use momento_webhook::reaction::{Incoming, Reaction, Unprocessed};
use momento_webhook::{handler, logs};

struct Greeter;

impl Reaction for Greeter {
    async fn react(&self, incoming: Incoming<'_>) -> Result<(), Unprocessed> {
        // An empty token id names nobody, and no later attempt would change that.
        let token_id = &incoming.event.token_id;
        if token_id.is_empty() {
            return Err(Unprocessed::Rejected { field: "token_id", expected: "a token that names its user" });
        }
        let name = incoming.user.and_then(|user| user.get("name")).and_then(|name| name.as_str()).unwrap_or("stranger");
        let topic = format!("greetings-{token_id}");
        incoming.momento.publish(&incoming.event.cache, &topic, format!("Hello, {name}!")).await?;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init(&config::env, module_path!());
    handler::run(HandlerConfig::from_lookup(&config::env)?, Greeter).await
}

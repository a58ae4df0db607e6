//! The ScsControl service: makes and lists caches, for whoever holds the API key.

use std::sync::Arc;

use momento_protos::control_client::{
    Cache, CacheLimits, CreateCacheRequest, CreateCacheResponse, CreateIndexRequest, CreateIndexResponse,
    CreateSigningKeyRequest, CreateSigningKeyResponse, DeleteCacheRequest, DeleteCacheResponse, DeleteIndexRequest,
    DeleteIndexResponse, FlushCacheRequest, FlushCacheResponse, ListCachesRequest, ListCachesResponse,
    ListIndexesRequest, ListIndexesResponse, ListSigningKeysRequest, ListSigningKeysResponse, RevokeSigningKeyRequest,
    RevokeSigningKeyResponse, TopicLimits, scs_control_server::ScsControl,
};
use tonic::{Request, Response, Status};

use super::{
    access::Gate,
    cache::Caches,
    store::{MAX_ITEM_BYTES, MAX_TTL_MS},
    topics::Topics,
};

/// Serves the calls on caches as a whole.
pub(super) struct Control {
    pub(super) gate: Arc<Gate>,
    pub(super) caches: Caches,
    pub(super) topics: Topics,
}

impl Control {
    fn open<T>(&self, request: Request<T>) -> Result<T, Status> {
        self.gate.caller(&request).may_administer()?;
        Ok(request.into_inner())
    }
}

#[tonic::async_trait]
impl ScsControl for Control {
    async fn create_cache(
        &self,
        request: Request<CreateCacheRequest>,
    ) -> Result<Response<CreateCacheResponse>, Status> {
        let request = self.open(request)?;
        self.caches.lock().create_cache(&request.cache_name)?;
        Ok(Response::new(CreateCacheResponse {}))
    }

    async fn delete_cache(
        &self,
        request: Request<DeleteCacheRequest>,
    ) -> Result<Response<DeleteCacheResponse>, Status> {
        let request = self.open(request)?;
        self.caches.lock().delete_cache(&request.cache_name)?;
        self.topics.delete_cache(&request.cache_name);
        Ok(Response::new(DeleteCacheResponse {}))
    }

    async fn flush_cache(&self, request: Request<FlushCacheRequest>) -> Result<Response<FlushCacheResponse>, Status> {
        let request = self.open(request)?;
        self.caches.lock().flush_cache(&request.cache_name)?;
        Ok(Response::new(FlushCacheResponse {}))
    }

    /// All on one page: there is a bound on how many there may be.
    async fn list_caches(&self, request: Request<ListCachesRequest>) -> Result<Response<ListCachesResponse>, Status> {
        self.open(request)?;
        let cache = self.caches.lock().caches().map(described).collect();
        Ok(Response::new(ListCachesResponse { cache, next_token: String::new() }))
    }

    async fn create_signing_key(
        &self,
        _: Request<CreateSigningKeyRequest>,
    ) -> Result<Response<CreateSigningKeyResponse>, Status> {
        Err(absent("signing keys"))
    }

    async fn revoke_signing_key(
        &self,
        _: Request<RevokeSigningKeyRequest>,
    ) -> Result<Response<RevokeSigningKeyResponse>, Status> {
        Err(absent("signing keys"))
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        Err(absent("signing keys"))
    }

    async fn create_index(&self, _: Request<CreateIndexRequest>) -> Result<Response<CreateIndexResponse>, Status> {
        Err(absent("vector indexes"))
    }

    async fn delete_index(&self, _: Request<DeleteIndexRequest>) -> Result<Response<DeleteIndexResponse>, Status> {
        Err(absent("vector indexes"))
    }

    async fn list_indexes(&self, _: Request<ListIndexesRequest>) -> Result<Response<ListIndexesResponse>, Status> {
        Err(absent("vector indexes"))
    }
}

/// The limits that hold here. There is none on rates.
fn described(name: &str) -> Cache {
    let kib = |bytes: usize| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    Cache {
        cache_name: name.to_owned(),
        cache_limits: Some(CacheLimits {
            max_traffic_rate: u32::MAX,
            max_throughput_kbps: u32::MAX,
            max_item_size_kb: kib(MAX_ITEM_BYTES),
            max_ttl_seconds: MAX_TTL_MS / 1000,
        }),
        topic_limits: Some(TopicLimits {
            max_publish_rate: u32::MAX,
            max_subscription_count: u32::MAX,
            max_publish_message_size_kb: kib(MAX_ITEM_BYTES),
        }),
        cache_id: String::new(),
    }
}

fn absent(what: &str) -> Status {
    Status::unimplemented(format!("the local server does not offer {what}"))
}

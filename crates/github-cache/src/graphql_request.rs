//! Requests to the GraphQL endpoint: which are queries that may be kept, and which are passed
//! through.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{Method, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::body::ResponseBody;
use crate::cache_control::CacheControl;
use crate::cache_status::{CacheStatus, Forward};
use crate::error::Problem;
use crate::graphql::Query;
use crate::graphql_operation::{self, MAX_BODY_BYTES, Operation, headers_to_send};
use crate::passthrough::Passing;
use crate::policy::{Plan, plan};
use crate::proxy::{GitHubCache, Incoming, rewrite, spender};
use crate::upstream::{Lane, end_to_end};

/// Within how long the body of a GraphQL query has to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

impl GitHubCache {
    /// Answers a request to the GraphQL endpoint: a query from the cache or for it, anything else
    /// by passing it through.
    pub(crate) async fn graphql<B>(
        &self,
        parts: Parts,
        body: B,
        incoming: Incoming,
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let headers = end_to_end(&parts.headers);
        let directives = CacheControl::of_request(&headers);
        // A query is a read, whatever its method.
        let plan = plan(&Method::GET, &headers, false, true, &directives);
        let is_small = body.size_hint().upper().is_some_and(|most| most <= MAX_BODY_BYTES as u64);
        let detail = match plan {
            Plan::Forward(_, detail) => detail,
            Plan::Answer { .. } if !is_small => Some("large"),
            Plan::Answer { .. } if headers.contains_key(CONTENT_ENCODING) => Some("encoding"),
            Plan::Answer { .. } => None,
        };
        if detail.is_some() {
            return self.pass_graphql(parts, body, incoming, (detail, true)).await;
        }
        let body = whole(body).await?;
        let sent = match Operation::of(&body) {
            Operation::Query(sent) => sent,
            other => {
                let passed = match other {
                    Operation::Uncached(detail) => (Some(detail), false),
                    _ => (None, true),
                };
                return self.pass_graphql(parts, Full::new(body), incoming, passed).await;
            }
        };
        let Incoming { api, client, token, call } = incoming;
        let to_send = headers_to_send(&headers);
        let query = Query {
            shared: Arc::clone(&self.shared),
            key: graphql_operation::key(&token, api.api.authority(), &to_send, &sent),
            spender: spender(&token, &api, &headers),
            url: api.target()?,
            headers: to_send,
            body: sent,
            token,
            client,
            call,
            directives,
        };
        let mut response = query.answer().await?;
        rewrite(&api, &mut response);
        Ok(response)
    }

    /// Passes a request to the GraphQL endpoint through; `passed` says why, and whether it may
    /// change something.
    async fn pass_graphql<B>(
        &self,
        parts: Parts,
        body: B,
        incoming: Incoming,
        (detail, mutates): (Option<&'static str>, bool),
    ) -> Result<Response<ResponseBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Incoming { api, client, token, call } = incoming;
        let status = CacheStatus::forwarded(Forward::Method).detail(detail);
        let spender = Some(spender(&token, &api, &parts.headers));
        let outgoing = self.outgoing(Lane::Api, client, Some(call), parts, api.target()?, body);
        let mutation = mutates.then(|| token.clone());
        let (token, api, written) = (Some(token), Some(api), None);
        self.pass(Passing { outgoing, status, token, written, mutation, spender, api }).await
    }
}

/// The whole body of a request whose length is known to be within its bound.
async fn whole<B>(body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let arriving = Limited::new(body, MAX_BODY_BYTES).collect();
    match timeout(BODY_WITHIN, Box::pin(arriving)).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) | Err(_) => Err(Problem::bad_request(
            "peercache: the body of the request did not arrive whole within 30 s; nothing was sent",
            "incomplete",
        )),
    }
}

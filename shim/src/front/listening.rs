//! The service beside containerd's: [`samara_shim_client::listening`].

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::WaitRequest;
use protobuf::well_known_types::struct_::ListValue;
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};

use super::tasks::Tasks;
use samara_shim_client::listening::{METHOD, SERVICE, to_proto};

/// The service, to be registered.
pub(crate) fn service(tasks: Arc<Tasks>) -> HashMap<String, Service> {
    let listening: Box<dyn MethodHandler + Send + Sync> = Box::new(Method { service: Listening { tasks } });
    let service = Service { methods: HashMap::from([(METHOD.to_owned(), listening)]), streams: HashMap::new() };
    HashMap::from([(SERVICE.to_owned(), service)])
}

/// In the shape in which the library's macro takes it.
struct Method {
    service: Listening,
}

struct Listening {
    tasks: Arc<Tasks>,
}

impl Listening {
    async fn listening(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<ListValue> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        Ok(to_proto(&process.listening().await?))
    }
}

#[async_trait]
impl MethodHandler for Method {
    async fn handler(&self, context: TtrpcContext, request: ttrpc::Request) -> ttrpc::Result<ttrpc::Response> {
        ttrpc::async_request_handler!(self, context, request, WaitRequest, listening);
    }
}

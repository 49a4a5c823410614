//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.
//!
//! Requests are translated for the controller, which decides; what is described is read from the
//! Image by [`describe`](super::describe). Each resource of a request has its own answer, in the
//! request's order. KIP-133, KIP-226, KIP-339, KIP-1142. Shell.

use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
    AlterableConfig, ConfigResource, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
    ReplacedConfig, ReplacedConfigsResource,
};
use protocol::error_code::ErrorCode;

use super::describe::{BROKER_LOGGER, CLIENT_METRICS, unknown_resource};
use crate::controller::{AlterConfig, ConfigChange, ConfigOperation, ControllerHandle};
use crate::metadata::{Image, Resource};

/// A code and the words for it.
pub(super) type Refusal = (ErrorCode, String);

/// Changes settings and leaves the others of their resources alone.
pub(crate) async fn incremental_alter_configs(
    controller: &ControllerHandle,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let IncrementalAlterConfigsRequest { resources, validate_only } = request;
    let parsed = resources.into_iter().map(|resource| {
        let AlterConfigsResource { resource_type, resource_name, configs } = resource;
        let parsed = changes(&configs).and_then(|changes| {
            let resource = resource_of(resource_type, &resource_name)?;
            Ok(AlterConfig { resource, changes, replace: false })
        });
        (resource_type, resource_name, parsed)
    });
    let responses = alter(controller, parsed.collect(), validate_only).await;
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

/// Replaces all settings of resources.
pub(crate) async fn alter_configs(
    controller: &ControllerHandle,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let AlterConfigsRequest { resources, validate_only } = request;
    let parsed = resources.into_iter().map(|resource| {
        let ReplacedConfigsResource { resource_type, resource_name, configs } = resource;
        let set = |ReplacedConfig { name, value }| {
            let operation = ConfigOperation::Set;
            ConfigChange { name, operation, value }
        };
        let changes = configs.into_iter().map(set).collect();
        let parsed = resource_of(resource_type, &resource_name);
        let parsed = parsed.map(|resource| AlterConfig { resource, changes, replace: true });
        (resource_type, resource_name, parsed)
    });
    let responses = alter(controller, parsed.collect(), validate_only).await;
    AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
}

/// Type and name of a resource, and what is wanted of it.
type Parsed = (i8, String, Result<AlterConfig, Refusal>);

async fn alter(
    controller: &ControllerHandle,
    parsed: Vec<Parsed>,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let lawful = parsed.iter().filter_map(|(_, _, parsed)| parsed.as_ref().ok().cloned());
    let asked = controller.alter_configs(lawful.collect(), validate_only).await;
    let mut altered = asked.map(Vec::into_iter);
    let mut answer = |parsed: Result<AlterConfig, Refusal>| -> Result<(), Refusal> {
        parsed?;
        match &mut altered {
            Ok(altered) => {
                let altered = altered.next().expect("one answer per resource");
                altered.map_err(|error| (error.code(), error.to_string()))
            }
            Err(error) => Err((error.code(), error.to_string())),
        }
    };
    let responses = parsed.into_iter().map(|(resource_type, resource_name, parsed)| {
        let (code, error_message) = answer(parsed).err().unzip();
        let error_code = code.unwrap_or(ErrorCode::None).to_wire();
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    responses.collect()
}

fn resource_of(resource_type: i8, resource_name: &str) -> Result<Resource, Refusal> {
    let known = Resource::from_wire(resource_type, resource_name);
    known.ok_or_else(|| unknown_resource(resource_type, resource_name))
}

fn changes(configs: &[AlterableConfig]) -> Result<Vec<ConfigChange>, Refusal> {
    let change = |config: &AlterableConfig| {
        let number = config.config_operation;
        let operation = ConfigOperation::from_wire(number).ok_or_else(|| {
            let message = format!("{}: unknown operation {number}", config.name);
            (ErrorCode::InvalidRequest, message)
        })?;
        Ok(ConfigChange { name: config.name.clone(), operation, value: config.value.clone() })
    };
    configs.iter().map(change).collect()
}

/// Lists what can have settings.
pub(crate) fn list_config_resources(
    image: &Image,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    const ALL: [i8; 5] =
        [Resource::TOPIC, Resource::BROKER, BROKER_LOGGER, CLIENT_METRICS, Resource::GROUP];
    // Version 0 knows client metrics alone, and of those there are none.
    let types = match (version, &*request.resource_types) {
        (0, _) => &[CLIENT_METRICS][..],
        (_, []) => &ALL,
        (_, types) => types,
    };
    let is_asked = |kind: i8| types.contains(&kind);
    if types.iter().any(|kind| !ALL.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.to_wire();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let mut config_resources = Vec::new();
    let mut add = |resource_type, resource_name: String| {
        if is_asked(resource_type) {
            config_resources.push(ConfigResource { resource_name, resource_type });
        }
    };
    image.topics().for_each(|topic| add(Resource::TOPIC, topic.name.to_string()));
    for broker in image.brokers() {
        add(Resource::BROKER, broker.id.to_string());
        add(BROKER_LOGGER, broker.id.to_string());
    }
    for resource in image.configured() {
        if let Resource::Group(group) = resource {
            add(Resource::GROUP, group.to_string());
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}

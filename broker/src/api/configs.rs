//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources.
//!
//! Requests are translated for the controller, which decides; what is described is read from the
//! Image by [`describe`](super::describe). Each resource of a request has its own answer, in the
//! request's order. Certificates that this broker is to show are read before the controller is
//! asked, and are in use when it has answered. KIP-133, KIP-226, KIP-339, KIP-1142. Shell.

use protocol::api::configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
    AlterableConfig, ConfigResource, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListConfigResourcesRequest, ListConfigResourcesResponse,
    ReplacedConfig, ReplacedConfigsResource,
};
use protocol::error_code::ErrorCode;
use protocol::ids::BrokerId;

use super::describe::{BROKER_LOGGER, CLIENT_METRICS, unknown_resource};
use super::parts::{Refusal, answers};
use crate::auth::stores::{self, Stores};
use crate::config::BrokerConfig;
use crate::controller::{
    AlterConfig, ConfigChange, ConfigOperation, ControllerHandle, SettingError, settings_after,
};
use crate::metadata::{Image, MetadataHandle, Resource};

/// What settings are altered by: the controller's word, and what this broker alone can see.
pub(crate) struct Altering<'a> {
    pub(crate) controller: &'a ControllerHandle,
    pub(crate) metadata: &'a MetadataHandle,
    /// What this broker was started with.
    pub(crate) config: &'a BrokerConfig,
    /// The certificates that it shows.
    pub(crate) stores: &'a Stores,
}

impl Altering<'_> {
    /// True when this broker's certificates may become others.
    fn concerns_stores(&self, alteration: &AlterConfig) -> bool {
        let AlterConfig { resource, changes, replace } = alteration;
        *resource == Resource::Broker(Some(BrokerId(self.config.node_id)))
            && (*replace || changes.iter().any(|it| BrokerConfig::is_of_store(&it.name)))
    }

    /// Whether all that this broker would show can be read.
    fn check(&self, alteration: AlterConfig) -> Result<AlterConfig, Refusal> {
        if !self.concerns_stores(&alteration) {
            return Ok(alteration);
        }
        let image = self.metadata.image();
        let refused = |error: SettingError| (error.code(), error.to_string());
        let broker = image.broker_config(self.config);
        let own = settings_after(&broker, &image, &alteration).map_err(refused)?;
        let own = own.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let config = self.config.with(image.configs(&Resource::Broker(None)).chain(own));
        let checked = stores::check(&config);
        checked.map_err(|error| (ErrorCode::InvalidRequest, error.told()))?;
        Ok(alteration)
    }

    async fn alter(
        &self,
        parsed: impl Iterator<Item = Parsed>,
        validate_only: bool,
    ) -> Vec<AlterConfigsResourceResponse> {
        let mut concerns_stores = false;
        let mut names = Vec::new();
        let checked = parsed.map(|(resource_type, resource_name, parsed)| {
            names.push((resource_type, resource_name));
            let alteration = parsed.and_then(|alteration| self.check(alteration))?;
            concerns_stores |= self.concerns_stores(&alteration);
            Ok(alteration)
        });
        let checked: Vec<_> = checked.collect();
        let ask = |alterations| self.controller.alter_configs(alterations, validate_only);
        let altered = answers(checked, ask).await;
        if concerns_stores && !validate_only {
            self.stores.reload().await;
        }
        let response = |((resource_type, resource_name), altered): ((i8, String), Answer)| {
            let told = altered.and_then(|it| it.map_err(|error| (error.code(), error.to_string())));
            let (code, error_message) = told.err().unzip();
            let error_code = code.unwrap_or(ErrorCode::None).to_wire();
            AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
        };
        names.into_iter().zip(altered).map(response).collect()
    }
}

/// Type and name of a resource, and what is wanted of it.
type Parsed = (i8, String, Result<AlterConfig, Refusal>);
/// What becomes of it.
type Answer = Result<Result<(), SettingError>, Refusal>;

/// Changes settings and leaves the others of their resources alone.
pub(crate) async fn incremental_alter_configs(
    altering: &Altering<'_>,
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
    let responses = altering.alter(parsed, validate_only).await;
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

/// Replaces all settings of resources.
pub(crate) async fn alter_configs(
    altering: &Altering<'_>,
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
    let responses = altering.alter(parsed, validate_only).await;
    AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
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

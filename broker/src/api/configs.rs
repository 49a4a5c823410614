//! DescribeConfigs and IncrementalAlterConfigs.
//!
//! Every known setting is described, set or not, with where its value comes from and what would
//! hold without it. A topic's own value comes first, then the broker's setting that is its synonym,
//! then the default. KIP-133, KIP-226, KIP-339, KIP-569. Shell.

use std::collections::BTreeMap;

use protocol::api::configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, DescribeConfigsRequest,
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use protocol::config::ConfigDef;
use protocol::error_code::ErrorCode;

use crate::config::BrokerConfig;
use crate::controller::{AlterConfig, ConfigChange, ConfigOperation, ControllerHandle};
use crate::metadata::{Image, Resource};

/// Set for the topic.
const TOPIC: i8 = 1;
/// Read by the broker at its start.
const STATIC_BROKER: i8 = 4;
/// Set nowhere.
const DEFAULT: i8 = 5;

/// A code and the words for it.
type Refusal = (ErrorCode, String);

/// What holds for topics that say nothing: the broker's own settings over the defaults.
#[derive(Debug)]
pub(crate) struct TopicDefaults(Vec<(&'static ConfigDef, Option<String>)>);

impl TopicDefaults {
    /// Those of a broker.
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        Self(config.topic_defaults())
    }

    /// Every setting of a topic, whose own values `own` tells.
    pub(crate) fn settings<'a>(
        &'a self,
        own: impl Fn(&str) -> Option<&'a str> + 'a,
    ) -> impl Iterator<Item = Setting> + 'a {
        self.0.iter().map(move |(def, default)| {
            let broker = default.as_deref().filter(|text| Some(*text) != def.default);
            let name = def.synonym.unwrap_or(def.name);
            let mut places = Vec::new();
            places.extend(own(def.name).map(|text| Place::new(def.name, text, TOPIC)));
            places.extend(broker.map(|text| Place::new(name, text, STATIC_BROKER)));
            places.extend(def.default.map(|text| Place::new(name, text, DEFAULT)));
            Setting { def, places, is_read_only: false }
        })
    }
}

/// A place from which a setting's value could come.
#[derive(Debug)]
struct Place {
    name: String,
    text: String,
    source: i8,
}

impl Place {
    fn new(name: &str, text: &str, source: i8) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), source }
    }
}

/// A setting with all the places from which its value could come, the strongest first.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) def: &'static ConfigDef,
    places: Vec<Place>,
    is_read_only: bool,
}

impl Setting {
    /// The value that holds. `None`: null, or a secret.
    pub(crate) fn value(&self) -> Option<String> {
        let shown = self.places.first().filter(|_| !self.def.is_sensitive());
        shown.map(|place| place.text.clone())
    }

    /// Where that comes from, by the number of the wire.
    pub(crate) fn source(&self) -> i8 {
        self.places.first().map_or(DEFAULT, |place| place.source)
    }

    fn describe(self, with_synonyms: bool, with_doc: bool) -> DescribeConfigsResourceResult {
        let is_sensitive = self.def.is_sensitive();
        let (value, config_source) = (self.value(), self.source());
        let places = self.places.into_iter().filter(|_| with_synonyms);
        let synonyms = places.map(|place| DescribeConfigsSynonym {
            name: place.name,
            value: (!is_sensitive).then_some(place.text),
            source: place.source,
        });
        DescribeConfigsResourceResult {
            name: self.def.name.to_owned(),
            value,
            read_only: self.is_read_only,
            config_source,
            is_sensitive,
            synonyms: synonyms.collect(),
            config_type: self.def.kind.to_wire(),
            documentation: with_doc.then(|| self.def.doc.trim().to_owned()),
        }
    }
}

/// Describes settings.
pub(crate) fn describe_configs(
    image: &Image,
    config: &BrokerConfig,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let defaults = TopicDefaults::new(config);
    let describe = |resource: &DescribeConfigsResource| {
        let (resource_type, resource_name) =
            (resource.resource_type, resource.resource_name.clone());
        let keys = resource.configuration_keys.as_deref().unwrap_or_default();
        let is_asked =
            |setting: &Setting| keys.is_empty() || keys.iter().any(|key| key == setting.def.name);
        let described = settings(image, config, &defaults, resource).map(|settings| {
            let asked = settings.into_iter().filter(is_asked);
            let doc = request.include_documentation;
            asked.map(|it| it.describe(request.include_synonyms, doc)).collect::<Vec<_>>()
        });
        let (configs, (code, error_message)) = match described {
            Ok(configs) => (configs, (ErrorCode::None, None)),
            Err((code, message)) => (Vec::new(), (code, Some(message))),
        };
        let error_code = code.to_wire();
        DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs }
    };
    let results = request.resources.iter().map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

/// Every setting of a resource.
fn settings(
    image: &Image,
    config: &BrokerConfig,
    defaults: &TopicDefaults,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Setting>, Refusal> {
    let DescribeConfigsResource { resource_type, resource_name, .. } = resource;
    match Resource::from_wire(*resource_type, resource_name) {
        Some(Resource::Topic(topic)) if image.topic(&topic).is_none() => {
            let message = format!("topic {topic} does not exist");
            Err((ErrorCode::UnknownTopicOrPartition, message))
        }
        Some(Resource::Topic(topic)) => {
            let own: BTreeMap<_, _> = image.topic_configs(&topic).collect();
            Ok(defaults.settings(|name| own.get(name).copied()).collect())
        }
        // Nothing is set for all brokers at once.
        Some(Resource::Broker(None)) => Ok(Vec::new()),
        Some(Resource::Broker(Some(id))) if id.0 == config.node_id => Ok(broker_settings(config)),
        Some(Resource::Broker(Some(id))) => {
            let message = format!("this is broker {}: ask broker {id} itself", config.node_id);
            Err((ErrorCode::InvalidRequest, message))
        }
        None => Err(unknown_resource(*resource_type, resource_name)),
    }
}

fn unknown_resource(resource_type: i8, resource_name: &str) -> Refusal {
    let message = format!("resource {resource_name:?} of type {resource_type} has no settings");
    (ErrorCode::InvalidRequest, message)
}

fn broker_settings(config: &BrokerConfig) -> Vec<Setting> {
    let setting = |(def, text): (&'static ConfigDef, Option<String>)| {
        let own = text.filter(|text| Some(text.as_str()) != def.default);
        let own = own.map(|text| Place::new(def.name, &text, STATIC_BROKER));
        let default = def.default.map(|text| Place::new(def.name, text, DEFAULT));
        let places = own.into_iter().chain(default).collect();
        Setting { def, places, is_read_only: !def.is_dynamic }
    };
    config.pairs().into_iter().map(setting).collect()
}

/// Changes settings.
pub(crate) async fn incremental_alter_configs(
    controller: &ControllerHandle,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let IncrementalAlterConfigsRequest { resources, validate_only } = request;
    let parsed: Vec<_> = resources.iter().map(alter_config).collect();
    let lawful = parsed.iter().flatten().cloned().collect();
    let asked = controller.alter_configs(lawful, validate_only).await;
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
    let responses = resources.into_iter().zip(parsed).map(|(resource, parsed)| {
        let (code, error_message) = answer(parsed).err().unzip();
        AlterConfigsResourceResponse {
            error_code: code.unwrap_or(ErrorCode::None).to_wire(),
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        }
    });
    let responses = responses.collect();
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

fn alter_config(resource: &AlterConfigsResource) -> Result<AlterConfig, Refusal> {
    let AlterConfigsResource { resource_type, resource_name, configs } = resource;
    let change = |config: &protocol::api::configs::AlterableConfig| {
        let number = config.config_operation;
        let operation = ConfigOperation::from_wire(number).ok_or_else(|| {
            let message = format!("{}: unknown operation {number}", config.name);
            (ErrorCode::InvalidRequest, message)
        })?;
        Ok(ConfigChange { name: config.name.clone(), operation, value: config.value.clone() })
    };
    let known = Resource::from_wire(*resource_type, resource_name);
    let resource = known.ok_or_else(|| unknown_resource(*resource_type, resource_name))?;
    let changes = configs.iter().map(change).collect::<Result<_, _>>()?;
    Ok(AlterConfig { resource, changes })
}

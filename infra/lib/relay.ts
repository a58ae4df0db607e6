import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { Duration, Validations } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import { DockerImageAsset, Platform } from 'aws-cdk-lib/aws-ecr-assets';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';

import { artifact } from './artifacts';
import { logGroupOf } from './function';
import type { Handler } from './handler';
import type { Options } from './options';
import { relayConfig } from './relay-config';
import { allowRead, momentoVariables, type Secrets } from './secrets';

/** Whoever this is in the image, it is not root, and it owns nothing there. */
const USER = '65532:65532';

/** The sender: subscribes to the topics, signs, and delivers to the handler's URL. */
export class Relay extends Construct {
  readonly cluster: ecs.Cluster;
  readonly service: ecs.FargateService;
  readonly logGroup: logs.LogGroup;
  readonly tasks: number;

  constructor(scope: Construct, id: string, options: Options, secrets: Secrets, handler: Handler) {
    super(scope, id);
    this.tasks = options.relay === 'pair' ? 2 : 1;
    const vpc = this.network();
    this.cluster = new ecs.Cluster(this, 'Cluster', { vpc });
    Validations.of(this.cluster).acknowledge({
      id: 'AwsSolutions-ECS4',
      reason: 'Container Insights is charged by the metric; the alarms here need none of its metrics.',
    });
    this.logGroup = logGroupOf(this, 'Relay', options.logRetentionDays);
    const task = this.task(options);
    allowRead(task.taskRole, secrets.apiKey);
    allowRead(task.taskRole, secrets.signing);
    if (options.auth === 'iam') allowCall(task.taskRole, handler);
    task.addContainer('Relay', {
      image: image(this, options),
      environment: {
        ...momentoVariables(secrets, options),
        MOMENTO_SIGNING_SECRET_NAME: secrets.signing.secretArn,
        ...relayConfig(options, handler.endpoint.url),
      },
      logging: ecs.LogDrivers.awsLogs({ logGroup: this.logGroup, streamPrefix: 'relay' }),
      readonlyRootFilesystem: true,
      user: USER,
      linuxParameters: withoutCapabilities(this),
      stopTimeout: Duration.seconds(30), // to finish the deliveries under way
    });
    this.service = new ecs.FargateService(this, 'Service', {
      cluster: this.cluster,
      taskDefinition: task,
      desiredCount: this.tasks,
      // Never more tasks than were asked for: one that is alone stops before its successor starts, at the price of
      // the messages in between; a pair changes one after the other and misses none.
      minHealthyPercent: options.relay === 'pair' ? 50 : 0,
      maxHealthyPercent: 100,
      // It would start a task more, which the line above forbids; ECS has it on by default.
      availabilityZoneRebalancing: ecs.AvailabilityZoneRebalancing.DISABLED,
      // A relay that cannot start is rolled back. One without an API key yet, as after a first deployment, has to stay up
      // and say that it is not ready, or the stack would be rolled back with the secret that is to be filled.
      circuitBreaker: { rollback: true },
      vpcSubnets: { subnetType: ec2.SubnetType.PUBLIC },
      assignPublicIp: true,
      securityGroups: [outboundOnly(this, vpc)],
    });
    // Otherwise the first tasks may start before they may fetch their image, or before there is a way to it.
    for (const subnet of vpc.publicSubnets) this.service.node.addDependency(subnet.internetConnectivityEstablished);
    const policy = task.obtainExecutionRole().node.tryFindChild('DefaultPolicy');
    if (policy) this.service.node.addDependency(policy);
  }

  /**
   * A network of its own, so that nothing has to be looked up in the account. Public subnets without a NAT gateway:
   * the tasks need the Internet (Momento, the function URL), a public address costs a tenth of what a gateway does,
   * and no port is open on it.
   */
  private network(): ec2.Vpc {
    const vpc = new ec2.Vpc(this, 'Vpc', {
      maxAzs: 2,
      natGateways: 0,
      subnetConfiguration: [{ name: 'Public', subnetType: ec2.SubnetType.PUBLIC, mapPublicIpOnLaunch: false }],
    });
    Validations.of(vpc).acknowledge({
      id: 'AwsSolutions-VPC7',
      reason: 'Nothing can connect to a task, and a task connects to few known services: flow logs would record noise.',
    });
    return vpc;
  }

  private task(options: Options): ecs.FargateTaskDefinition {
    const task = new ecs.FargateTaskDefinition(this, 'Task', {
      cpu: 256,
      memoryLimitMiB: 512,
      runtimePlatform: {
        cpuArchitecture: options.architecture === 'arm64' ? ecs.CpuArchitecture.ARM64 : ecs.CpuArchitecture.X86_64,
        operatingSystemFamily: ecs.OperatingSystemFamily.LINUX,
      },
    });
    Validations.of(task).acknowledge({
      id: 'AwsSolutions-ECS2',
      reason: 'The variables hold names and settings; the secrets they name are read at run time, so that they rotate.',
    });
    Validations.of(task.obtainExecutionRole()).acknowledge({
      id: 'AwsSolutions-IAM5[Resource::*]',
      reason: 'ecr:GetAuthorizationToken knows no resource: ECR takes nothing but a star.',
    });
    return task;
  }
}

/** Calls that AWS authenticates need both actions; the second must not become a way around the URL. */
function allowCall(role: iam.IRole, handler: Handler): void {
  const statement = (action: string, condition: iam.Conditions) =>
    role.addToPrincipalPolicy(
      new iam.PolicyStatement({ actions: [action], resources: [handler.functionArn], conditions: condition }),
    );
  statement('lambda:InvokeFunctionUrl', { StringEquals: { 'lambda:FunctionUrlAuthType': 'AWS_IAM' } });
  statement('lambda:InvokeFunction', { Bool: { 'lambda:InvokedViaFunctionUrl': 'true' } });
}

function outboundOnly(scope: Construct, vpc: ec2.Vpc): ec2.SecurityGroup {
  const group = new ec2.SecurityGroup(scope, 'OutboundOnly', {
    vpc,
    description: 'The relay: HTTPS to anywhere, nothing from anywhere',
    allowAllOutbound: false,
  });
  // Neither Momento nor AWS says which addresses it answers on.
  group.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.tcp(443), 'Momento, the function URL and AWS');
  return group;
}

function withoutCapabilities(scope: Construct): ecs.LinuxParameters {
  const parameters = new ecs.LinuxParameters(scope, 'Linux', { initProcessEnabled: false });
  parameters.dropCapabilities(ecs.Capability.ALL);
  return parameters;
}

/** The image is built when it is deployed; to synthesise it takes no Docker, for only its files are hashed. */
function image(scope: Construct, options: Options): ecs.ContainerImage {
  const binary = path.join(artifact('relay', options), 'bootstrap');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'relay-image-'));
  try {
    // The two files alone: all of target/ would be hashed, and sent to Docker.
    fs.copyFileSync(binary, path.join(folder, 'bootstrap'));
    fs.chmodSync(path.join(folder, 'bootstrap'), 0o755); // whatever the builder's umask: it belongs to root there
    fs.copyFileSync(path.join(__dirname, '../../relay.Dockerfile'), path.join(folder, 'Dockerfile'));
    const asset = new DockerImageAsset(scope, 'Image', {
      directory: folder,
      platform: options.architecture === 'arm64' ? Platform.LINUX_ARM64 : Platform.LINUX_AMD64,
    });
    return ecs.ContainerImage.fromDockerImageAsset(asset);
  } finally {
    fs.rmSync(folder, { recursive: true }); // the CDK has its copy
  }
}

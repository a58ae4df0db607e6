import { Duration } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sns from 'aws-cdk-lib/aws-sns';
import { Construct } from 'constructs';

import type { Options } from './options';
import type { Parking } from './parking';
import type { Relay } from './relay';

/** Where the binaries write their own metrics. */
const NAMESPACE = 'MomentoWebhook';
const FIVE_MINUTES = Duration.minutes(5);

export interface Watched {
  handler: lambda.Function;
  redrive: lambda.Function;
  publisher: lambda.Function;
  parking: Parking;
  relay: Relay | undefined;
  rotation: lambda.IFunction | undefined;
}

/** An alarm: above what, for how many of how many periods, and what to think of it. */
interface Condition {
  metric: cloudwatch.IMetric;
  threshold: number;
  /** Of the last periods, so many must be over the threshold. One of one, where it is not said. */
  periods?: { of: number; over: number };
  comparison?: cloudwatch.ComparisonOperator;
  /** Nothing measured is a good sign for almost everything here: no calls, no errors. */
  silence?: cloudwatch.TreatMissingData;
  meaning: string;
}

/** Alarms for what needs a person, and a dashboard that shows whether all is well. */
export class Observability extends Construct {
  readonly dashboard: cloudwatch.Dashboard;
  private readonly alarms: cloudwatch.Alarm[] = [];

  constructor(scope: Construct, id: string, options: Options, watched: Watched) {
    super(scope, id);
    const ours = ownMetrics('handler', options);
    const { handler, redrive, publisher, parking, relay, rotation } = watched;
    const waiting = waitingIn(parking);
    this.alarm('BadSignatures', {
      metric: ours('BadSignature'),
      threshold: 5,
      periods: { of: 3, over: 2 },
      meaning:
        'Requests with a wrong signature keep coming: someone is trying, or sender and receiver hold different secrets.',
    });
    this.alarm('Parked', {
      metric: waiting,
      threshold: 1,
      periods: { of: 3, over: 3 },
      meaning: 'Parked events have not been processed for 15 minutes: Momento or the reaction is failing.',
    });
    this.alarm('DeadLetters', {
      metric: parking.deadLetters.metricApproximateNumberOfMessagesVisible({
        period: Duration.minutes(1),
        statistic: 'Maximum',
      }),
      threshold: 1,
      meaning: 'An event was given up. It stays in the dead-letter queue for 14 days from when it was parked.',
    });
    this.alarm('HandlerThrottles', {
      metric: handler.metricThrottles({ period: FIVE_MINUTES }),
      threshold: 1,
      meaning: 'The sender was turned away: raise reservedConcurrency, or the limit of the account.',
    });
    this.alarm('HandlerErrors', {
      metric: handler.metricErrors({ period: FIVE_MINUTES }),
      threshold: 1,
      meaning: 'The handler crashed or ran out of time.',
    });
    this.alarm('HandlerUnavailable', {
      metric: url(handler, 'Url5xxCount', 'Sum'),
      threshold: 1,
      meaning: 'The handler answered 5xx: it had no secret, or could neither process an event nor park it.',
    });
    this.alarm('HandlerLatency', {
      metric: url(handler, 'UrlRequestLatency', 'p99'),
      threshold: 2500,
      periods: { of: 3, over: 3 },
      meaning: 'The slowest of 100 answers takes over 2.5 s, starts included; the sender waits for 5 s.',
    });
    this.alarm('RedriveErrors', {
      metric: redrive.metricErrors({ period: FIVE_MINUTES }),
      threshold: 1,
      periods: { of: 3, over: 2 },
      meaning: 'The function that processes parked events crashes or runs out of time.',
    });
    this.alarm('PublisherErrors', {
      metric: publisher.metricErrors({ period: FIVE_MINUTES }),
      threshold: 1,
      periods: { of: 3, over: 2 },
      meaning: 'Messages are not published: Momento is failing, the API key is not valid, or requests are not.',
    });
    if (rotation) {
      this.alarm('RotationErrors', {
        metric: rotation.metricErrors({ period: FIVE_MINUTES }),
        threshold: 1,
        meaning: 'The signing secret was not rotated. The present one goes on to work.',
      });
    }
    if (relay) this.watch(relay, options);
    if (options.alarmTopicArn) {
      const action = new SnsAction(sns.Topic.fromTopicArn(this, 'Topic', options.alarmTopicArn));
      for (const alarm of this.alarms) {
        alarm.addAlarmAction(action);
        alarm.addOkAction(action);
      }
    }
    this.dashboard = new cloudwatch.Dashboard(this, 'Dashboard', { widgets: this.widgets(watched, options, waiting) });
  }

  /**
   * Whether the relay is there, and whether it is ready. ECS knows the first only: how many tasks report their CPU is
   * how many run, and none reporting is the worst case. A container health check would make ECS replace a task that is
   * not ready, though a new one is no readier while Momento is away; so the second is read from the relay's log.
   */
  private watch(relay: Relay, options: Options): void {
    this.alarm('RelayNotRunning', {
      metric: runningTasks(relay),
      threshold: relay.tasks,
      comparison: cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
      periods: { of: 5, over: 5 },
      silence: cloudwatch.TreatMissingData.BREACHING,
      meaning: 'Fewer relay tasks run than should: messages that nobody takes from a topic are gone after seconds.',
    });
    const notReady = new logs.MetricFilter(this, 'RelayNotReadyLines', {
      logGroup: relay.logGroup,
      filterPattern: logs.FilterPattern.stringValue('$.message', '=', 'not ready*'),
      // A filter cannot add a dimension of its own, so the namespace keeps two stacks apart.
      metricNamespace: `${NAMESPACE}/${options.stackName}`,
      metricName: 'RelayNotReady',
      metricValue: '1',
      defaultValue: 0,
    });
    this.alarm('RelayNotReady', {
      metric: notReady.metric({ period: Duration.minutes(1), statistic: 'Sum' }),
      threshold: 1,
      periods: { of: 5, over: 3 },
      meaning: 'The relay runs but cannot do its work: it is not subscribed, or has no key or signing secret.',
    });
  }

  private alarm(id: string, condition: Condition): void {
    const { metric, threshold, meaning, periods = { of: 1, over: 1 } } = condition;
    this.alarms.push(
      new cloudwatch.Alarm(this, id, {
        alarmDescription: meaning,
        metric,
        threshold,
        evaluationPeriods: periods.of,
        datapointsToAlarm: periods.over,
        comparisonOperator: condition.comparison ?? cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treatMissingData: condition.silence ?? cloudwatch.TreatMissingData.NOT_BREACHING,
      }),
    );
  }

  private widgets(watched: Watched, options: Options, waiting: cloudwatch.IMetric): cloudwatch.IWidget[][] {
    const ours = ownMetrics('handler', options);
    const late = ownMetrics('redrive', options);
    const { handler, redrive, publisher, parking, relay } = watched;
    const graph = (title: string, ...left: cloudwatch.IMetric[]) =>
      new cloudwatch.GraphWidget({ title, left, width: 8, leftYAxis: { min: 0 } });
    const latency = ['p50', 'p99'].map((statistic) => url(handler, 'UrlRequestLatency', statistic));
    const delivery = ['p50', 'p99'].map((statistic) => ours('DeliveryLatency', statistic));
    const queues = [waiting, parking.deadLetters.metricApproximateNumberOfMessagesVisible({ label: 'Given up' })];
    return [
      [new cloudwatch.AlarmStatusWidget({ title: 'Alarms', alarms: this.alarms, width: 24, height: 3 })],
      [
        graph('Events', ...['Accepted', 'Duplicate', 'Parked'].map((name) => ours(name))),
        graph('Refused', ...['BadSignature', 'Stale', 'Malformed', 'Rejected', 'Failed'].map((name) => ours(name))),
        graph('Parked and given up', ...queues),
      ],
      [
        graph('Answer to the sender (ms)', ...latency),
        graph('From event to reaction (ms)', ...delivery),
        graph('Processed later', ...['Accepted', 'Duplicate', 'Rejected', 'Failed'].map((name) => late(name))),
      ],
      [
        graph('Errors', ...[handler, redrive, publisher].map((fn) => fn.metricErrors())),
        graph('Throttles', ...[handler, redrive, publisher].map((fn) => fn.metricThrottles())),
        graph('Starts and secrets', ours('ColdStart'), ours('SecretRefresh')),
      ],
      ...(relay ? [[graph('Relay tasks', runningTasks(relay))]] : []),
    ];
  }
}

type OwnMetrics = (name: string, statistic?: string) => cloudwatch.Metric;

/** What a binary of ours counts; each metric carries the stack's name, so that two stacks do not mix. */
function ownMetrics(service: 'handler' | 'redrive', options: Options): OwnMetrics {
  return (metricName, statistic = 'Sum') =>
    new cloudwatch.Metric({
      namespace: NAMESPACE,
      metricName,
      dimensionsMap: { service, stack: options.stackName },
      period: FIVE_MINUTES,
      statistic,
      label: statistic === 'Sum' ? metricName : `${metricName} ${statistic}`,
    });
}

/** What the caller of a function URL sees, unlike `Duration`, which leaves out the start. */
function url(fn: lambda.Function, metricName: string, statistic: string): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: 'AWS/Lambda',
    metricName,
    dimensionsMap: { FunctionName: fn.functionName },
    period: FIVE_MINUTES,
    statistic,
    label: statistic === 'Sum' ? metricName : statistic,
  });
}

/**
 * All that waits: to be seen, in hand, or put off. Not the age of the oldest message, since SQS leaves out of that
 * what was received more than three times, which is just what this is about.
 */
function waitingIn(parking: Parking): cloudwatch.MathExpression {
  const at = { period: FIVE_MINUTES, statistic: 'Maximum' };
  return new cloudwatch.MathExpression({
    expression: 'visible + hidden + delayed',
    label: 'Waiting',
    period: FIVE_MINUTES,
    usingMetrics: {
      visible: parking.queue.metricApproximateNumberOfMessagesVisible(at),
      hidden: parking.queue.metricApproximateNumberOfMessagesNotVisible(at),
      delayed: parking.queue.metricApproximateNumberOfMessagesDelayed(at),
    },
  });
}

function runningTasks(relay: Relay): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: 'AWS/ECS',
    metricName: 'CPUUtilization',
    dimensionsMap: { ClusterName: relay.cluster.clusterName, ServiceName: relay.service.serviceName },
    period: Duration.minutes(1), // each task reports once a minute
    statistic: 'SampleCount',
    label: 'Running',
  });
}

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { COMBINATIONS, synthesise } from './support/stacks';

const ALARM = 'AWS::CloudWatch::Alarm';

/** An alarm's heart: the metric, of what, how it is counted, and when it is too much. */
function alarm(name: string, context: Record<string, string> = {}) {
  const { Metrics, Threshold, ComparisonOperator, EvaluationPeriods, DatapointsToAlarm, TreatMissingData, ...flat } =
    synthesise(context).properties(ALARM, `Observability${name}`);
  assert.ok(!Metrics || Metrics.length === 1); // the CDK writes a list of one where a metric has a label
  const { Metric, Stat, Period } = Metrics?.[0].MetricStat ?? {
    Metric: flat,
    Stat: flat.Statistic ?? flat.ExtendedStatistic,
    Period: flat.Period,
  };
  return {
    metric: `${Metric.Namespace} ${Metric.MetricName} ${Stat}`,
    of: Object.fromEntries((Metric.Dimensions ?? []).map(({ Name, Value }: any) => [Name, Value])),
    when: `${ComparisonOperator === 'LessThanThreshold' ? '<' : '>='} ${Threshold}`,
    for: `${DatapointsToAlarm}/${EvaluationPeriods} of ${Period} s`,
    silence: TreatMissingData,
  };
}

const of = (name: string) => ({ FunctionName: { Ref: synthesise().id('AWS::Lambda::Function', name) } });
const SILENT = { silence: 'notBreaching' };

describe('an alarm', () => {
  test('tells of bad signatures, in this stack alone', () => {
    assert.deepEqual(alarm('BadSignatures'), {
      metric: 'MomentoWebhook BadSignature Sum',
      of: { service: 'handler', stack: 'momento-webhook' },
      when: '>= 5',
      for: '2/3 of 300 s',
      ...SILENT,
    });
    assert.equal(alarm('BadSignatures', { stackName: 'other' }).of.stack, 'other');
  });

  test('tells of parked events that stay', () => {
    const { Metrics, Threshold, EvaluationPeriods, DatapointsToAlarm } = synthesise().properties(
      ALARM,
      'ObservabilityParked',
    );
    const parts = Metrics.filter(({ MetricStat }: any) => MetricStat).map(({ Id, MetricStat }: any) => [
      Id,
      MetricStat.Metric.MetricName,
    ]);
    assert.deepEqual(parts, [
      ['visible', 'ApproximateNumberOfMessagesVisible'],
      ['hidden', 'ApproximateNumberOfMessagesNotVisible'],
      ['delayed', 'ApproximateNumberOfMessagesDelayed'],
    ]);
    assert.equal(Metrics.find(({ Expression }: any) => Expression).Expression, 'visible + hidden + delayed');
    assert.deepEqual([Threshold, EvaluationPeriods, DatapointsToAlarm], [1, 3, 3]);
  });

  test('tells of the first dead letter', () => {
    const queue = synthesise().id('AWS::SQS::Queue', 'ParkingDeadLetters');
    assert.deepEqual(alarm('DeadLetters'), {
      metric: 'AWS/SQS ApproximateNumberOfMessagesVisible Maximum',
      of: { QueueName: { 'Fn::GetAtt': [queue, 'QueueName'] } },
      when: '>= 1',
      for: '1/1 of 60 s',
      ...SILENT,
    });
  });

  test('tells of throttles and errors', () => {
    for (const [name, metric, fn, periods] of [
      ['HandlerThrottles', 'Throttles', 'Handler', '1/1'],
      ['HandlerErrors', 'Errors', 'Handler', '1/1'],
      ['HandlerUnavailable', 'Url5xxCount', 'Handler', '1/1'],
      ['RedriveErrors', 'Errors', 'Redrive', '2/3'],
      ['PublisherErrors', 'Errors', 'Publisher', '2/3'],
      ['RotationErrors', 'Errors', 'SecretsRotationFunction', '1/1'],
    ] as const) {
      assert.deepEqual(alarm(name), {
        metric: `AWS/Lambda ${metric} Sum`,
        of: of(fn),
        when: '>= 1',
        for: `${periods} of 300 s`,
        ...SILENT,
      });
    }
  });

  test('tells of slow answers, well before the sender stops waiting', () => {
    assert.deepEqual(alarm('HandlerLatency'), {
      metric: 'AWS/Lambda UrlRequestLatency p99',
      of: of('Handler'),
      when: '>= 2500',
      for: '3/3 of 300 s',
      ...SILENT,
    });
  });

  test('tells of a relay that is not there, silence included', () => {
    for (const [relay, tasks] of [
      ['one', 1],
      ['pair', 2],
    ] as const) {
      const found = alarm('RelayNotRunning', { relay });
      assert.equal(found.metric, 'AWS/ECS CPUUtilization SampleCount');
      assert.deepEqual([found.when, found.for, found.silence], [`< ${tasks}`, '5/5 of 60 s', 'breaching']);
      assert.deepEqual(Object.keys(found.of), ['ClusterName', 'ServiceName']);
    }
  });

  test("tells of a relay that says it is not ready, from this stack's log alone", () => {
    const stack = synthesise({ relay: 'one' });
    const filter = stack.properties('AWS::Logs::MetricFilter', 'ObservabilityRelayNotReadyLines');
    assert.equal(filter.FilterPattern, '{ $.message = "not ready*" }');
    assert.deepEqual(filter.LogGroupName, { Ref: stack.id('AWS::Logs::LogGroup', 'RelayRelayLogs') });
    assert.deepEqual(alarm('RelayNotReady', { relay: 'one' }), {
      metric: 'MomentoWebhook/momento-webhook RelayNotReady Sum',
      of: {},
      when: '>= 1',
      for: '3/5 of 60 s',
      ...SILENT,
    });
  });

  test('is there for what is deployed, and says what it means', () => {
    const names = (context: Record<string, string>) =>
      synthesise(context)
        .all(ALARM)
        .map(([id]) => id.slice('Observability'.length, -8));
    const always = [
      'BadSignatures',
      'Parked',
      'DeadLetters',
      'HandlerThrottles',
      'HandlerErrors',
      'HandlerUnavailable',
      'HandlerLatency',
      'RedriveErrors',
      'PublisherErrors',
    ];
    assert.deepEqual(names({ signer: 'momento' }), always);
    assert.deepEqual(names({ relay: 'one' }), [...always, 'RotationErrors', 'RelayNotRunning', 'RelayNotReady']);
    for (const [id, { Properties }] of synthesise({ relay: 'one' }).all(ALARM))
      assert.ok(Properties.AlarmDescription?.length > 20, id);
  });

  test('goes to the topic, where there is one', () => {
    const topic = COMBINATIONS['with all that can be set']!.alarmTopicArn;
    for (const [id, { Properties }] of synthesise(COMBINATIONS['with all that can be set']).all(ALARM)) {
      assert.deepEqual([Properties.AlarmActions, Properties.OKActions], [[topic], [topic]], id);
    }
    for (const [id, { Properties }] of synthesise().all(ALARM)) assert.equal(Properties.AlarmActions, undefined, id);
  });
});

test('the dashboard shows what redrive made of what was parked', () => {
  const body = JSON.stringify(
    synthesise().properties('AWS::CloudWatch::Dashboard', 'ObservabilityDashboard').DashboardBody,
  );
  assert.ok(body.includes(`\\"Accepted\\",\\"service\\",\\"redrive\\",\\"stack\\",\\"momento-webhook\\"`));
});

test('the dashboard shows every alarm, and every metric that the handler writes', () => {
  const stack = synthesise({ relay: 'one' });
  const body = JSON.stringify(stack.properties('AWS::CloudWatch::Dashboard', 'ObservabilityDashboard').DashboardBody);
  for (const [id] of stack.all(ALARM)) assert.ok(body.includes(`["${id}","Arn"]`), id);
  for (const metric of [
    'Accepted',
    'Duplicate',
    'Stale',
    'BadSignature',
    'Malformed',
    'Rejected',
    'Parked',
    'Failed',
    'SecretRefresh',
    'ColdStart',
    'DeliveryLatency',
  ]) {
    assert.ok(
      body.includes(
        `\\"MomentoWebhook\\",\\"${metric}\\",\\"service\\",\\"handler\\",\\"stack\\",\\"momento-webhook\\"`,
      ),
      metric,
    );
  }
});

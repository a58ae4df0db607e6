import { anonymousPrincipal, runSimulation } from '@cloud-copilot/iam-simulate';

import type { CfnResource, Synthesised } from './stacks';

const ACCOUNT = '111122223333';
const REGION = 'eu-west-1';
const PSEUDO: Record<string, string> = {
  'AWS::AccountId': ACCOUNT,
  'AWS::Region': REGION,
  'AWS::Partition': 'aws',
  'AWS::URLSuffix': 'amazonaws.com',
};

/** The ARN that a resource would have. */
const ARNS: Record<string, (id: string) => string> = {
  'AWS::SecretsManager::Secret': (id) => `arn:aws:secretsmanager:${REGION}:${ACCOUNT}:secret:${id}-AbCdEf`,
  'AWS::SQS::Queue': (id) => `arn:aws:sqs:${REGION}:${ACCOUNT}:${id}`,
  'AWS::Lambda::Function': (id) => `arn:aws:lambda:${REGION}:${ACCOUNT}:function:${id}`,
  'AWS::IAM::Role': (id) => `arn:aws:iam::${ACCOUNT}:role/${id}`,
  'AWS::Logs::LogGroup': (id) => `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:${id}:*`, // CloudFormation gives it so
};

/** What the policy of a KMS key says unless somebody changed it: the account's own policies decide. */
const DEFAULT_KEY_POLICY = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${ACCOUNT}:root` }, Action: 'kms:*', Resource: '*' }],
};

/** Who asks: a role of the stack, an identity with these policies, or anybody. */
export type Principal = { role: string } | { name: string; policies: object[] } | 'anonymous';

/** An account in which a stack has been deployed, as far as its policies go; a policy engine says what they allow. */
export class Account {
  constructor(private readonly stack: Synthesised) {}

  /** The ARN of a resource, by type and name. */
  arn(type: string, name: string): string {
    return ARNS[type]!(this.stack.id(type, name));
  }

  /** May `principal` do `action` on the resource with this ARN? `context` adds to what AWS says of each request. */
  async may(
    principal: Principal,
    action: string,
    resource: string,
    context: Record<string, string> = {},
  ): Promise<boolean> {
    const arn =
      principal === 'anonymous'
        ? undefined
        : 'role' in principal
          ? this.arn('AWS::IAM::Role', principal.role)
          : `arn:aws:iam::${ACCOUNT}:role/${principal.name}`;
    const answer = await runSimulation(
      {
        request: {
          principal: arn ?? anonymousPrincipal,
          action,
          resource: { resource, accountId: ACCOUNT },
          contextVariables: { 'aws:SecureTransport': 'true', ...(arn && { 'aws:PrincipalArn': arn }), ...context },
        },
        identityPolicies: this.identityPolicies(principal).map((policy, index) => ({ name: `p${index}`, policy })),
        serviceControlPolicies: [],
        resourceControlPolicies: [],
        resourcePolicy: this.resourcePolicy(resource),
      },
      {},
    );
    if (answer.resultType === 'error') throw new Error(`${action} on ${resource}: ${JSON.stringify(answer.errors)}`);
    return answer.overallResult === 'Allowed';
  }

  private identityPolicies(principal: Principal): object[] {
    if (principal === 'anonymous') return [];
    if ('policies' in principal) return principal.policies;
    const role = this.stack.id('AWS::IAM::Role', principal.role);
    const { ManagedPolicyArns, Policies } = this.stack.json.Resources[role]!.Properties;
    if (ManagedPolicyArns ?? Policies) throw new Error(`${role} has policies that this does not evaluate`);
    return this.stack
      .all('AWS::IAM::Policy')
      .filter(([, policy]) => policy.Properties.Roles.some((attached: any) => attached.Ref === role))
      .map(([, policy]) => this.resolve(policy.Properties.PolicyDocument) as object);
  }

  private resourcePolicy(resource: string): object | undefined {
    if (resource.startsWith('arn:aws:kms:')) return DEFAULT_KEY_POLICY;
    const statements = [
      ...this.stack.all('AWS::SQS::QueuePolicy').flatMap(([, policy]) => policy.Properties.PolicyDocument.Statement),
      ...this.stack.all('AWS::Lambda::Permission').map(([, permission]) => lambdaStatement(permission)),
    ];
    const about = statements
      .map((statement) => this.resolve(statement) as any)
      .filter(({ Resource }) => Resource === resource);
    return about.length > 0 ? { Version: '2012-10-17', Statement: about } : undefined;
  }

  /** A part of the template as CloudFormation would deploy it. */
  resolve(value: any): unknown {
    if (Array.isArray(value)) return value.map((item) => this.resolve(item));
    if (typeof value !== 'object' || value === null) return value;
    const [[intrinsic, argument] = ['', undefined], ...rest] = Object.entries<any>(value);
    if (rest.length === 0) {
      if (intrinsic === 'Ref') return this.reference(argument);
      if (intrinsic === 'Fn::GetAtt' && argument[1] === 'Arn') return this.arnOf(argument[0]);
      if (intrinsic === 'Fn::Join') return (this.resolve(argument[1]) as string[]).join(argument[0]);
      if (intrinsic === 'Fn::Sub')
        return argument.replace(/\$\{(.*?)\}/g, (_: string, name: string) => this.reference(name));
      if (intrinsic.startsWith('Fn::')) throw new Error(`cannot resolve ${JSON.stringify(value)}`);
    }
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.resolve(item)]));
  }

  private reference(name: string): string {
    const pseudo = PSEUDO[name];
    if (pseudo) return pseudo;
    const { Type } = this.stack.json.Resources[name] ?? {};
    if (Type === 'AWS::SecretsManager::Secret') return this.arnOf(name);
    throw new Error(`cannot resolve a reference to ${name}`);
  }

  private arnOf(id: string): string {
    const arn = ARNS[this.stack.json.Resources[id]!.Type];
    if (!arn) throw new Error(`cannot make an ARN for ${id}`);
    return arn(id);
  }
}

/** What Lambda makes of a permission: a statement of the function's own policy. */
function lambdaStatement({ Properties: permission }: CfnResource): object {
  const { Action, FunctionName, Principal, FunctionUrlAuthType, InvokedViaFunctionUrl, SourceArn, SourceAccount } =
    permission;
  return {
    Effect: 'Allow',
    Principal: Principal === '*' ? '*' : { Service: Principal },
    Action,
    Resource: FunctionName,
    Condition: {
      ...(FunctionUrlAuthType && { StringEquals: { 'lambda:FunctionUrlAuthType': FunctionUrlAuthType } }),
      ...(InvokedViaFunctionUrl && { Bool: { 'lambda:InvokedViaFunctionUrl': 'true' } }),
      ...(SourceArn && { ArnLike: { 'aws:SourceArn': SourceArn } }),
      ...(SourceAccount && { StringEquals: { 'aws:SourceAccount': SourceAccount } }),
    },
  };
}

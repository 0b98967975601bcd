// The TypeScript SDK's client: lists tools, calls one, and prints what came.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [target, ...command] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${process.env.TOKEN}` };
const overHttp = () => {
  const Transport = target.endsWith("/sse") ? SSEClientTransport : StreamableHTTPClientTransport;
  return new Transport(new URL(target), { requestInit: { headers } });
};
const transport = command.length
  ? new StdioClientTransport({ command: target, args: command, env: process.env })
  : overHttp();
const client = new Client({ name: "tests", version: "1" });
await client.connect(transport);
const { tools } = await client.listTools();
const stages = [];
const onprogress = (progress) => stages.push(progress.message);
const result = await client.callTool({ name: "customer_by_id", arguments: { id: 3 } }, undefined, { onprogress });
const told = { tools: tools.map((tool) => tool.name), rows: result.structuredContent.rows, stages };
console.log(JSON.stringify({ ...told, session: transport.sessionId ?? null }));
await client.close();

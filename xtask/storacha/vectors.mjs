// Golden vectors of UCAN 0.9.1 as the official packages make them: keys, delegations, receipts, an archive.
// Everything follows from fixed seeds, so each run prints the same. Run it in a folder whose node_modules
// holds the packages of package.json:
//   node vectors.mjs > crates/backend-storacha/tests/golden/ucan.json
// The file is DAG-JSON: {"/": "..."} is a link, {"/": {"bytes": "..."}} are bytes.
import * as ed25519 from '@ucanto/principal/ed25519'
import { delegate, Receipt } from '@ucanto/core'
import * as UCAN from '@ipld/dag-ucan'
import * as DID from '@ipld/dag-ucan/did'
import * as json from '@ipld/dag-json'
import { CID } from 'multiformats/cid'
import { identity } from 'multiformats/hashes/identity'
import { sha256 } from 'multiformats/hashes/sha2'
import { base64 } from 'multiformats/bases/base64'

const seeds = { space: 1, agent: 2, other: 3 }
const keys = {}
for (const [name, byte] of Object.entries(seeds)) keys[name] = await ed25519.derive(new Uint8Array(32).fill(byte))
const { space, agent, other } = keys
const service = DID.parse('did:web:up.example.org')
const raw = CID.createV1(0x55, await sha256.digest(new TextEncoder().encode('x')))
const forever = { expiration: Infinity }

const parent = await delegate({
  issuer: space, audience: agent, ...forever,
  capabilities: [{ can: 'space/blob/*', with: space.did() }, { can: 'upload/*', with: space.did() }],
})
const child = await delegate({
  issuer: agent, audience: other, expiration: 4000000000, proofs: [parent],
  capabilities: [{ can: 'upload/get', with: space.did() }],
})
const cases = {
  'a delegation that never expires': parent,
  'a delegation of a delegation': child,
  'an invocation with parameters of every kind': await delegate({
    issuer: agent, audience: service, expiration: 1800000000, nonce: 'n1', proofs: [parent],
    capabilities: [{ can: 'upload/add', with: space.did(), nb: {
      root: raw, shards: [raw], size: 4294967296, digest: new Uint8Array([0x12, 0x20, 0xff]), whole: true,
      none: null, list: [], empty: {}, negative: -7, half: 0.5 } }],
  }),
  'texts that JSON escapes': await delegate({
    issuer: agent, audience: service, expiration: 1800000000, nonce: 'quote " slash \\ / tab \t',
    capabilities: [{ can: 'upload/list', with: space.did(), nb: {
      cursor: 'ü € 😀 \u2028 \u007f \u0001', 'sorted b': 1, aa: 2, b: 3 } }],
  }),
  'facts and a time before which it is not valid': await delegate({
    issuer: agent, audience: service, expiration: 1800000000, notBefore: 1700000000, nonce: '',
    facts: [{ keys: { a: new Uint8Array([1, 2]) } }, { 'ucan/fact': raw }],
    capabilities: [{ can: 'ucan/attest', with: service.did(), nb: {} }],
  }),
  'several capabilities of several resources': await delegate({
    issuer: space, audience: service, ...forever, nonce: 'x',
    capabilities: [{ can: '*', with: 'ucan:*' }, { can: 'space/info', with: space.did() }, { can: 'a/b', with: 'mailto:a@b' }],
  }),
}

const delegations = []
for (const [name, made] of Object.entries(cases)) {
  const { data } = made
  const issuer = Object.keys(keys).find(key => keys[key].did() === made.issuer.did())
  delegations.push({
    name, issuer, audience: made.audience.did(),
    capabilities: data.capabilities, proofs: made.proofs.map(proof => proof.cid ?? proof),
    expiration: Number.isFinite(data.expiration) ? data.expiration : null,
    ...(data.notBefore === undefined ? {} : { notBefore: data.notBefore }),
    ...(data.nonce === undefined ? {} : { nonce: data.nonce }),
    facts: data.facts,
    statement: UCAN.format(data).split('.').slice(0, 2).join('.'),
    cid: made.cid, block: made.root.bytes,
  })
}

const receipts = []
for (const [name, result, fork] of [
  ['a success with an effect', { ok: { site: raw, size: 7 } }, [child.cid]],
  ['a success that says nothing', { ok: {} }, []],
  ['a failure', { error: { name: 'UploadNotFound', message: 'there is none' } }, []],
]) {
  const receipt = await Receipt.issue({ issuer: agent, ran: parent.cid, result, fx: { fork } })
  receipts.push({ name, issuer: 'agent', ran: parent.cid, result, fork, cid: receipt.root.cid, block: receipt.root.bytes })
}

const archive = await child.archive()
if (archive.error) throw archive.error
const proof = CID.createV1(0x0202, identity.digest(archive.ok)).toString(base64)
const principals = Object.entries(keys).map(([name, key]) => (
  { name, seed: new Uint8Array(32).fill(seeds[name]), text: ed25519.format(key), did: key.did() }))
const all = { principals, delegations, receipts, archive: { proof, cid: child.cid, audience: child.audience.did() } }
console.log(JSON.stringify(JSON.parse(new TextDecoder().decode(json.encode(all))), null, 1))
